"""Between which depths does a scene lie, when the capture does not say?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.types import Views
from recon.model.consistency import DepthMaps
from recon.model.sources import nearest_views
from recon.model.volume import cost_volume
from recon.model.warp import Warp, inside
from render import Cameras

PLANES = 96
LONG_SIDE_PX = 96
# Disparities that are tried, from 0.001 to 30 baselines, before planes are chosen among them.
LADDER = 128
# A part of the view that sources see, relative to the largest, below which it is not fair.
FAIR = 0.3
# A pixel counts when its windows correlate this well and both views agree.
MIN_ZNCC = 0.8
# Fewer agreeing pixels than this share of a view tell nothing.
MIN_SHARE = 0.01
# Near, far and median for a view that nothing can be compared with.
GUESS = (1.0, 20.0, 3.0)


@dataclass(frozen=True)
class DepthRange:
    """Depths (z, world units) of every view."""

    near: Float[Tensor, "v"]
    far: Float[Tensor, "v"]
    median: Float[Tensor, "v"]


def depth_range_of(views: Views) -> DepthRange:
    """The range that the capture states, else the one that a coarse sweep finds. One view alone
    has no scale: it gets a range that indoor and outdoor scenes in metres fit into."""
    if views.depth_bounds is None and len(views) == 1:
        return DepthRange(*(views.images.new_tensor([depth]) for depth in GUESS))
    if views.depth_bounds is None:
        return _estimate(views.resized(LONG_SIDE_PX / max(views.images.shape[-2:])))
    near, far = views.depth_bounds.unbind(-1)
    # The middle of the disparities stands for the median.
    return DepthRange(near, far, 2 / (1 / near + 1 / far))


def _estimate(views: Views) -> DepthRange:
    """A coarse plane sweep over all that the views can share; its consistent pixels tell.

    The 2 % and 98 % quantiles of mutually consistent depths, with slack (x 0.8 and
    x 1.3). A view without enough such pixels takes the middle of the others' ranges.
    """
    images, cameras, count = views.images, views.cameras, len(views)
    size = images.shape[-2:]
    sources = nearest_views(cameras, 3)
    planes = torch.stack([_even_planes(cameras, v, sources[v]) for v in range(count)])
    steps = torch.diff(planes, dim=1, append=2 * planes[:, -1:] - planes[:, -2:-1])
    found = []
    for v in range(count):
        volume = cost_volume(images, cameras, v, sources[v], planes[v], radii=(2,))
        best, index = volume.min(0)
        found.append(torch.stack([planes[v][index], steps[v][index], 1 - 2 * best]))
    disparity, step, score = torch.stack(found, 1)
    maps = DepthMaps(cameras, disparity, 1.5 * step, images)
    depths = []
    for v in range(count):
        agreed = torch.zeros_like(score[v], dtype=torch.bool)
        for s in sources[v]:
            agreed |= maps.compare(v, s).agrees
        # The farthest plane is where all goes that lies behind it.
        good = agreed & (score[v] > MIN_ZNCC) & (disparity[v] > planes[v, 0])
        good &= views.masks[v, 0] > 0.5
        depths.append(1 / disparity[v][good])
    shared = [(float(row[0]), float(row[-1])) for row in planes]
    return _quantiles(depths, shared, int(MIN_SHARE * size[0] * size[1]))


def _even_planes(cameras: Cameras, view: int, sources: list[int]) -> Float[Tensor, "d"]:
    """Disparities from the lowest to the highest at which a fair part of the view is seen by a
    source, such that its pixels move there by equal steps.

    For cameras side by side that is even in disparity. A camera behind this one sees points
    however near: steps even in disparity would spend all planes there.
    """
    distances = (cameras.centers[sources] - cameras.centers[view]).norm(dim=-1)
    baseline = float(distances.median().clamp_min(1e-8))
    ladder = torch.logspace(-3, 1.5, LADDER, dtype=cameras.Ks.dtype, device=cameras.device)
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
    return _along(ladder, way - way[0])


def _along(values: Float[Tensor, "l"], way: Float[Tensor, "l"]) -> Float[Tensor, "d"]:
    """PLANES values between the first and the last, evenly spaced on the way."""
    # Where nothing moves at all, steps are even in the values' order.
    way = way + 1e-6 * torch.arange(len(way)).to(way)
    wanted = torch.linspace(0, 1, PLANES).to(way) * way[-1]
    after = torch.searchsorted(way, wanted).clamp(1, len(way) - 1)
    part = (wanted - way[after - 1]) / (way[after] - way[after - 1])
    return torch.lerp(values[after - 1], values[after], part)


def _quantiles(depths: list[Tensor], shared: list[tuple[float, float]], enough: int) -> DepthRange:
    """Robust range per view; views that found too little borrow the middle of the others."""
    rows: list[Tensor | None] = []
    for found in depths:
        if len(found) >= max(enough, 8):
            low, middle, high = torch.quantile(found, found.new_tensor([0.02, 0.5, 0.98]))
            rows.append(torch.stack([0.8 * low, 1.3 * high, middle]))
        else:
            rows.append(None)
    known = [row for row in rows if row is not None]
    if known:
        borrowed = torch.stack(known).median(0).values
    else:
        low, high = max(s[0] for s in shared), min(s[1] for s in shared)
        low = min(low, high / 4)
        borrowed = depths[0].new_tensor([1 / high, 1 / low, 2 / (low + high)])
    table = torch.stack([borrowed if row is None else row for row in rows])
    return DepthRange(*table.unbind(-1))
