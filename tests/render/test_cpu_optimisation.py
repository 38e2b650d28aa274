"""Optimising through the kernel ends where optimising through the reference ends."""

import pytest
import torch
from helpers import look_at_cameras, random_gaussians

from render import Gaussians, rasterize

STEPS = 1000


def optimise(backend: str, dtype: torch.dtype) -> tuple[float, float]:
    """Return the (first, last) mean squared error of noise fitted to images of another scene."""
    generator = torch.Generator().manual_seed(5)
    cameras = look_at_cameras(2, 32, 28).to(dtype)
    goal = random_gaussians(12, generator, 1).to(dtype)
    noise = random_gaussians(20, generator, 1).to(dtype)
    with torch.no_grad():
        photos = rasterize(goal, cameras, backend=backend).rgb
    leaves = [
        noise.means.clone(),
        noise.quats.clone(),
        noise.scales.log(),
        noise.opacities.logit(),
        noise.sh.clone(),
    ]
    for leaf in leaves:
        leaf.requires_grad_()
    adam = torch.optim.Adam(leaves, lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.01 ** (1 / STEPS))
    losses = []
    for _ in range(STEPS):
        means, quats, scales, opacities, sh = leaves
        scene = Gaussians(means, quats, scales.exp(), opacities.sigmoid(), sh)
        loss = (rasterize(scene, cameras, backend=backend).rgb - photos).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


@pytest.mark.slow
def test_a_thousand_steps_from_noise_reach_the_same_loss() -> None:
    start, reference = optimise("reference", torch.float64)
    _, kernel = optimise("cpu", torch.float32)
    assert reference < 0.02 * start
    assert kernel == pytest.approx(reference, rel=0.01)
