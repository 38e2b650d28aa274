"""Between which depths does a scene lie, when the capture does not say?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.consistency import DepthMaps
from recon.model.mvs.cost_volume import cost_volume
from recon.model.mvs.depth_planes import even_planes
from recon.model.mvs.source_views import nearest_views
from recon.model.mvs.warp import inside
from recon.types import Views
from render import Cameras

PLANES = 96
LONG_SIDE_PX = 96
# A pixel counts when its windows correlate this well and both views agree.
MIN_ZNCC = 0.8
# Fewer agreeing pixels than this share of a view tell nothing.
MIN_SHARE = 0.01
# Beyond the 2 % and 98 % quantiles of depths.
NEAR_SLACK, FAR_SLACK = 0.8, 1.3
MAX_SAMPLES = 100_000
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

    The 2 % and 98 % quantiles of mutually consistent depths, with slack.
    """
    images, cameras, count = views.images, views.cameras, len(views)
    size = images.shape[-2:]
    sources = nearest_views(cameras, 3)
    planes = torch.stack([even_planes(cameras, v, sources[v], PLANES) for v in range(count)])
    steps = torch.diff(planes, dim=1, append=2 * planes[:, -1:] - planes[:, -2:-1])
    found = []
    for v in range(count):
        volume = cost_volume(images, cameras, v, sources[v], planes[v], radii=(2,))
        best, index = volume.min(0)
        found.append(torch.stack([planes[v][index], steps[v][index], 1 - 2 * best]))
    disparity, step, score = torch.stack(found, 1)
    maps = DepthMaps(cameras, disparity, 1.5 * step, images)
    good = []
    for v in range(count):
        agreed = torch.zeros_like(score[v], dtype=torch.bool)
        for s in sources[v]:
            agreed |= maps.compare(v, s).agrees
        # The farthest plane is where all goes that lies behind it.
        good.append(agreed & (score[v] > MIN_ZNCC) & (disparity[v] > planes[v, 0]))
    sure = torch.stack(good) & (views.masks[:, 0] > 0.5)
    shared = [(float(row[0]), float(row[-1])) for row in planes]
    enough = max(int(MIN_SHARE * size[0] * size[1]), 8)
    origins, directions = cameras.rays()
    points = (origins + directions / disparity[..., None])[sure]
    depths = [1 / d[s] for d, s in zip(disparity, sure, strict=True)]
    return _ranges(cameras, depths, points, shared, enough)


def _ranges(
    cameras: Cameras,
    depths: list[Float[Tensor, "_"]],
    points: Float[Tensor, "p 3"],
    shared: list[tuple[float, float]],
    enough: int,
) -> DepthRange:
    """Robust range of each view: of the depths it found itself, widened to those of the points that
    all views found inside its picture. A view without enough of either borrows the middle of the
    others' ranges."""
    rows: list[Tensor | None] = []
    for v, own in enumerate(depths):
        pixels, depth = (t[0] for t in cameras[[v]].project(points))
        ahead = inside(pixels, depth, cameras.width, cameras.height)
        found = [_quantiles(each) for each in (own, depth[ahead]) if len(each) >= enough]
        if not found:
            rows.append(None)
            continue
        near, far = (torch.stack(row) for row in zip(*(q[:2] for q in found), strict=True))
        rows.append(torch.stack([NEAR_SLACK * near.min(), FAR_SLACK * far.max(), found[0][2]]))
    known = [row for row in rows if row is not None]
    if known:
        borrowed = torch.stack(known).median(0).values
    else:
        low, high = max(s[0] for s in shared), min(s[1] for s in shared)
        low = min(low, high / 4)
        borrowed = depths[0].new_tensor([1 / high, 1 / low, 2 / (low + high)])
    table = torch.stack([borrowed if row is None else row for row in rows])
    return DepthRange(*table.unbind(-1))


def _quantiles(depths: Float[Tensor, "_"]) -> Float[Tensor, "3"]:
    """Nearest, farthest and middle one, but for a few."""
    # torch.quantile takes 16 million values at most, and sorts: a part is enough.
    part = depths[:: 1 + len(depths) // MAX_SAMPLES]
    return torch.quantile(part, part.new_tensor([0.02, 0.98, 0.5]))
