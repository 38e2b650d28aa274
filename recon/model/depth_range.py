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
    shared = [_shared_disparities(cameras, v, sources[v]) for v in range(count)]
    disparity, score = torch.zeros_like(images[:, 0]), torch.zeros_like(images[:, 0])
    for v in range(count):
        planes = torch.linspace(*shared[v], PLANES).to(images)
        volume = cost_volume(images, cameras, v, sources[v], planes, radii=(2,))
        best, index = volume.min(0)
        disparity[v], score[v] = planes[index], 1 - 2 * best
    steps = torch.tensor([(high - low) / (PLANES - 1) for low, high in shared]).to(images)
    maps = DepthMaps(cameras, disparity, 1.5 * steps, images)
    depths = []
    for v in range(count):
        agreed = torch.zeros_like(score[v], dtype=torch.bool)
        for s in sources[v]:
            agreed |= maps.compare(v, s).agrees
        # The farthest plane is where all goes that lies behind it.
        good = agreed & (score[v] > MIN_ZNCC) & (disparity[v] > shared[v][0] + 0.5 * steps[v])
        good &= views.masks[v, 0] > 0.5
        depths.append(1 / disparity[v][good])
    return _quantiles(depths, shared, int(MIN_SHARE * size[0] * size[1]))


def _shared_disparities(cameras: Cameras, view: int, sources: list[int]) -> tuple[float, float]:
    """Lowest and highest disparity at which a fair part of the view is seen by a source."""
    distances = (cameras.centers[sources] - cameras.centers[view]).norm(dim=-1)
    baseline = float(distances.median().clamp_min(1e-8))
    depths = baseline * torch.logspace(-1.5, 3, 64, dtype=cameras.Ks.dtype)
    depths = depths.to(cameras.device)
    seen = torch.zeros_like(depths)
    for source in sources:
        warp = Warp.between(cameras, view, source)
        pixels, ratio = warp.pixels(1 / depths[:, None, None])
        share = inside(pixels, ratio, cameras.width, cameras.height).float().mean((1, 2))
        seen = torch.maximum(seen, share)
    fair = (seen >= 0.3 * seen.max()).nonzero()[:, 0]
    nearest, farthest = float(depths[fair[0]]), float(depths[fair[-1]])
    low = 0.0 if fair[-1] == len(depths) - 1 else 1 / farthest
    return max(low, 1e-4 / nearest), 1 / nearest


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
