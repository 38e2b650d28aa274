"""Planes for a view that nothing is known about yet."""

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.warp import Warp, inside
from render import Cameras

# Disparities that are tried, as powers of ten of 1 / baseline, before planes are chosen among them.
REACH, LADDER = (-3.0, 1.5), 128
# A part of the view that sources see, relative to the largest, below which it is not fair.
FAIR = 0.3


def even_planes(cameras: Cameras, view: int, sources: list[int], count: int) -> Float[Tensor, "d"]:
    """Disparities from the lowest to the highest at which a fair part of the view is seen by a
    source, such that its pixels move there by equal steps.

    For cameras side by side that is even in disparity. A camera behind this one sees points
    however near: steps even in disparity would spend all planes there.
    """
    distances = (cameras.centers[sources] - cameras.centers[view]).norm(dim=-1)
    baseline = float(distances.median().clamp_min(1e-8))
    ladder = torch.logspace(*REACH, LADDER, dtype=cameras.Ks.dtype, device=cameras.device)
    ladder = ladder / baseline
    seen, moves = torch.zeros_like(ladder), torch.zeros_like(ladder)
    for source in sources:
        pixels, ratio = Warp.between(cameras, view, source).pixels(ladder[:, None, None])
        there = inside(pixels, ratio, cameras.width, cameras.height)
        seen = torch.maximum(seen, there.float().mean((1, 2)))
        both = there[1:] & there[:-1]
        steps = (pixels[1:] - pixels[:-1]).norm(dim=-1).where(both, 0).sum((1, 2))
        mean = steps / both.sum((1, 2)).clamp_min(1)
        moves[1:] = torch.maximum(moves[1:], mean)
    fair = (seen >= FAIR * seen.max()).nonzero()[:, 0]
    first = min(int(fair[0]), LADDER - 2)
    last = max(int(fair[-1]), first + 1)
    ladder, way = ladder[first : last + 1], moves[first : last + 1].cumsum(0)
    return _along(ladder, way - way[0], count)


def _along(values: Float[Tensor, "l"], way: Float[Tensor, "l"], count: int) -> Float[Tensor, "d"]:
    """So many values between the first and the last, evenly spaced on the way."""
    # Where nothing moves at all, steps are even in the values' order.
    way = way + 1e-6 * torch.arange(len(way)).to(way)
    wanted = torch.linspace(0, 1, count).to(way) * way[-1]
    after = torch.searchsorted(way, wanted).clamp(1, len(way) - 1)
    part = (wanted - way[after - 1]) / (way[after] - way[after - 1])
    return torch.lerp(values[after - 1], values[after], part)
