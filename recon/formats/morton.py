"""Order along a Morton curve.

Neighbours in space become neighbours in the file, which improves the compression.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Gaussians

# Bits per coordinate; three of them fit into 64 bits.
BITS = 21


def morton_order(points: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
    """Return indices that sort points by their interleaved coordinates (Morton 1966)."""
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.long)
    low, high = points.amin(0), points.amax(0)
    steps = ((points - low).double() / (high - low).clamp_min(1e-30).double()) * ((1 << BITS) - 1)
    code = torch.zeros(len(points), dtype=torch.long)
    for axis in range(3):
        code |= _spread(steps[:, axis].long()) << axis
    return code.argsort()


def in_morton_order(gaussians: Gaussians) -> Gaussians:
    """Sort Gaussians along a Morton curve."""
    return gaussians[morton_order(gaussians.means)]


def in_texture_order(gaussians: Gaussians, width: int) -> Gaussians:
    """Sort Gaussians along a Morton curve of space and of a texture with one texel per Gaussian.

    Neighbours in space become neighbours along both axes of the texture.

    Args:
        gaussians: At least one.
        width: Width of the texture, which is filled row by row.
    """
    texel = torch.arange(len(gaussians))
    positions = torch.stack([texel % width, texel // width, 0 * texel], 1).float()
    order = torch.empty_like(texel)
    order[morton_order(positions)] = morton_order(gaussians.means)
    return gaussians[order]


def _spread(values: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Insert two zero bits after each of 21 bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        values = (values | (values << shift)) & mask
    return values
