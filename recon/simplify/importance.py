"""Importance of Gaussians for the images of a set of cameras."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Cameras, Gaussians, measure_contributions

# Fraction of the remaining Gaussians that is removed before the contributions are measured again,
# until this fraction of all Gaussians remains.
REMOVED_PER_ROUND, LAST_FRACTION = 0.15, 0.05


def contribution(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "n"]:
    """Sum each Gaussian's weights (alpha times transmittance) over all pixels of all cameras."""
    return measure_contributions(gaussians, cameras).weight_sum


def importance_order(gaussians: Gaussians, cameras: Cameras) -> Int[Tensor, "n"]:
    """Sort Gaussians by importance, so that every prefix is a good smaller scene.

    Backward elimination: the Gaussians that contribute least are removed, and the contributions of
    the others, which they hid or shared pixels with, are measured again.

    Returns:
        Indices of the Gaussians, the most important one first.
    """
    remaining = torch.arange(len(gaussians), device=gaussians.device)
    removed: list[Tensor] = []
    while len(remaining) > LAST_FRACTION * len(gaussians):
        order = contribution(gaussians[remaining], cameras).argsort()
        count = math.ceil(REMOVED_PER_ROUND * len(remaining))
        removed.append(remaining[order[:count]])
        remaining = remaining[order[count:].sort().values]
    removed.append(remaining[contribution(gaussians[remaining], cameras).argsort()])
    return torch.cat(removed).flip(0)
