"""Fit your own Gaussians to images with the differentiable rasterizer: no model, no files.

python examples/03_optimise_own_scene.py assets/sample --steps 100
"""

import argparse

import torch

import recon
from render import Gaussians, rasterize


def main() -> None:
    """Optimise the parameters of random Gaussians with Adam."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--resolution", type=int, default=128)
    options = parser.parse_args()
    views = recon.load_views(options.capture, options.resolution, max_views=4)
    n, size = 2000, float(views.cameras.centers.norm(dim=1).mean())
    log_scales = torch.full((n, 3), size / 50).log()
    raw = torch.randn(n, 3) * size / 3, log_scales, torch.zeros(n), torch.zeros(n, 1, 3)
    parameters = [tensor.requires_grad_() for tensor in raw]
    quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    for step in range(options.steps):
        means, log_scales, logits, sh = parameters
        gaussians = Gaussians(means, quats, log_scales.exp(), logits.sigmoid(), sh)
        loss = (rasterize(gaussians, views.cameras).rgb - views.images).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step in (0, options.steps - 1):
            print(f"step {step}: {-10 * loss.log10():.2f} dB")


if __name__ == "__main__":
    main()
