"""Synthetic highlights, for tests of SH degree 3: networks predict degree 0."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from render import Gaussians
from render.quaternions import quats_to_rotmats
from render.sh import num_coefficients, sh_basis

DEGREE = 3
# Direction to the light (world), peak brightness and width of the highlights.
LIGHT, STRENGTH, WIDTH = (0.4, -0.8, -0.45), 0.4, 0.25


def glossy(gaussians: Gaussians, seed: int = 0) -> Gaussians:
    """Add a white highlight of random strength to every Gaussian.

    A lobe around the mirrored light is c_l Y_lm(axis) in every band (Sloan 2008, "Stupid
    Spherical Harmonics Tricks", equation 13 on zonal harmonics).
    """
    axes = quats_to_rotmats(gaussians.quats)
    rows = torch.arange(len(gaussians))
    normal = axes[rows, :, gaussians.scales.argmin(-1)]
    light = normalize(torch.tensor(LIGHT).to(normal), dim=0)
    facing = normal @ light
    # SH colours are evaluated along the direction from the camera, opposite to the mirrored light.
    mirrored = light - 2 * facing[:, None] * normal
    generator = torch.Generator().manual_seed(seed)
    strength = STRENGTH * torch.rand(len(gaussians), generator=generator) * facing.abs()
    lobe = strength[:, None] * _bands().to(normal) * sh_basis(DEGREE, mirrored)
    sh = lobe[..., None].expand(-1, -1, 3).clone()
    sh[:, : gaussians.sh.shape[1]] += gaussians.sh
    return Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, sh)


def _bands() -> Float[Tensor, " k"]:
    """Return the lobe's factor of each coefficient, normalised to a peak of 1."""
    degrees = [band for band in range(DEGREE + 1) for _ in range(2 * band + 1)]
    band = torch.tensor(degrees, dtype=torch.float64)
    decay = torch.exp(-WIDTH * band * (band + 1) / 2)
    peak = (decay / (4 * torch.pi)).sum()
    assert len(decay) == num_coefficients(DEGREE)
    return decay / peak
