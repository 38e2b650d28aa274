"""Which Gaussians stand for the same patch of a surface?"""

import torch
from jaxtyping import Int
from torch import Tensor

from render.footprints import Footprints

# Depth of a cell in its widths: of deeper ones the parts shift against each other from elsewhere.
DEPTH = 1.0


def cells(footprints: Footprints, size_px: float) -> Int[Tensor, "n"]:
    """The number of each point's cell, from 0 without gaps.

    A cell is a square of `size_px` pixels of the camera that sees its points finest, DEPTH times
    as deep: all photos' Gaussians of one patch meet in one cell, and blocks of pixels stay whole.
    What no camera sees is in a cell of its own.
    """
    seen = footprints.size > 0
    across = (footprints.pixels / size_px).floor().long()
    focal = footprints.depth / footprints.size.clamp_min(1e-30)
    # Relative: a layer is as thick in pixels at every depth.
    layer = footprints.depth.clamp_min(1e-30).log() * focal / (DEPTH * size_px)
    alone = torch.arange(len(seen), device=seen.device)
    columns = [torch.where(seen, -1, alone), footprints.camera, *across.T, layer.floor().long()]
    return _one_number(columns)


def _one_number(columns: list[Int[Tensor, "n"]]) -> Int[Tensor, "n"]:
    """Different rows to different numbers, from 0 without gaps."""
    number = torch.zeros_like(columns[0])
    for digits in columns:
        # Without gaps, so that the product of all spans stays small.
        _, digits = torch.unique(digits, return_inverse=True)
        _, number = torch.unique(number * (int(digits.max()) + 1) + digits, return_inverse=True)
    return number
