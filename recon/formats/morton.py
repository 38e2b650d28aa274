"""Order along a Morton curve: neighbours in space become neighbours in the file, which packs them
better."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Gaussians

BITS = 21


def morton_order(points: Float[Tensor, "n 3"]) -> Int[Tensor, "n"]:
    """Indices that sort points by their interleaved coordinates (Morton 1966), 21 bits each."""
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.long)
    low, high = points.amin(0), points.amax(0)
    steps = ((points - low).double() / (high - low).clamp_min(1e-30).double()) * ((1 << BITS) - 1)
    code = torch.zeros(len(points), dtype=torch.long)
    for axis in range(3):
        code |= _spread(steps[:, axis].long()) << axis
    return code.argsort()


def in_morton_order(part: Gaussians) -> Gaussians:
    """The same Gaussians along the curve."""
    return part[morton_order(part.means)]


def in_picture_order(scene: Gaussians, width: int) -> Gaussians:
    """The same Gaussians so that, in rows of `width`, neighbours in space are neighbours along both
    axes."""
    pixel = torch.arange(len(scene))
    places = torch.stack([pixel % width, pixel // width, 0 * pixel], 1).float()
    order = torch.empty_like(pixel)
    order[morton_order(places)] = morton_order(scene.means)
    return scene[order]


def _spread(numbers: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Two zero bits after each of 21 bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        numbers = (numbers | (numbers << shift)) & mask
    return numbers
