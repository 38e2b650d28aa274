"""A scene that shines, as optimised scenes of degree 3 do: networks predict degree 0."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from render import Gaussians
from render.quaternions import quats_to_rotmats
from render.sh import num_coefficients, sh_basis

DEGREE = 3
# Towards the light, in the frame of the scene; brightness of a highlight; how wide it is.
LIGHT, STRENGTH, WIDTH = (0.4, -0.8, -0.45), 0.4, 0.25


def glossy(gaussians: Gaussians, seed: int = 0) -> Gaussians:
    """With a highlight on every Gaussian, white and as strong as chance will have it.

    A lobe around the mirrored light is c_l Y_lm(axis) in every band (Sloan 2008, "Stupid
    Spherical Harmonics Tricks", equation 13 on zonal harmonics).
    """
    axes = quats_to_rotmats(gaussians.quats)
    rows = torch.arange(len(gaussians))
    normal = axes[rows, :, gaussians.scales.argmin(-1)]
    light = normalize(torch.tensor(LIGHT).to(normal), dim=0)
    facing = normal @ light
    # SH colours are asked for along the direction from the eye, against the mirrored light.
    mirrored = light - 2 * facing[:, None] * normal
    generator = torch.Generator().manual_seed(seed)
    strength = STRENGTH * torch.rand(len(gaussians), generator=generator) * facing.abs()
    lobe = strength[:, None] * _bands().to(normal) * sh_basis(DEGREE, mirrored)
    sh = lobe[..., None].expand(-1, -1, 3).clone()
    sh[:, : gaussians.sh.shape[1]] += gaussians.sh
    return Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, sh)


def _bands() -> Float[Tensor, "k"]:
    """Of each coefficient; a highlight's peak is 1."""
    degrees = [band for band in range(DEGREE + 1) for _ in range(2 * band + 1)]
    band = torch.tensor(degrees, dtype=torch.float64)
    falls = torch.exp(-WIDTH * band * (band + 1) / 2)
    peak = (falls / (4 * torch.pi)).sum()
    assert len(falls) == num_coefficients(DEGREE)
    return falls / peak
