"""Which Gaussians matter most."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Cameras, Gaussians, measure_contributions

# Of LightGaussian: how much volume counts, and the volume that counts as 1.
VOLUME_POWER, VOLUME_QUANTILE = 0.1, 0.9


def contribution(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "n"]:
    """Sum of a Gaussian's weights (alpha times transmittance) over all pixels of all views."""
    return measure_contributions(gaussians, cameras).weight_sum


def light_gaussian(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "n"]:
    """The same, times a power of the normalised volume (Fan et al. 2024, LightGaussian, equations 3
    and 4)."""
    volume = gaussians.scales.prod(-1)
    limit = volume.sort().values[int(VOLUME_QUANTILE * (len(volume) - 1))].clamp_min(1e-30)
    return contribution(gaussians, cameras) * (volume / limit).clamp(0, 1) ** VOLUME_POWER


def importance_order(gaussians: Gaussians, cameras: Cameras) -> Int[Tensor, "n"]:
    """The most important first: any first part is the best smaller scene that leaving out gives."""
    if len(gaussians) == 0:
        return torch.zeros(0, dtype=torch.long, device=gaussians.device)
    return contribution(gaussians, cameras).argsort(descending=True)
