"""Which Gaussians matter most."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Cameras, Gaussians, measure_contributions

# Of LightGaussian: how much volume counts, and the volume that counts as 1.
VOLUME_POWER, VOLUME_QUANTILE = 0.1, 0.9
# Part of those left that goes before they are measured anew, until this part of all is left.
ROUND, LAST = 0.15, 0.05


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
    """The most important first: any first part is about the best smaller scene that leaving out
    gives.

    From the end: the least ones go, and what they hid or shared their pixels with counts for more
    when the others are looked at again.
    """
    left = torch.arange(len(gaussians), device=gaussians.device)
    gone: list[Tensor] = []
    while len(left) > LAST * len(gaussians):
        order = contribution(gaussians.select(left), cameras).argsort()
        leaving = math.ceil(ROUND * len(left))
        gone.append(left[order[:leaving]])
        left = left[order[leaving:].sort().values]
    gone.append(left[contribution(gaussians.select(left), cameras).argsort()])
    return torch.cat(gone).flip(0)
