"""Depth range of a scene, as stated by the capture or estimated by a coarse plane sweep."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.consistency import DepthMaps
from recon.model.mvs.cost_volume import cost_volume
from recon.model.mvs.depth_planes import uniform_motion_planes
from recon.model.mvs.source_views import nearest_views
from recon.model.mvs.warp import inside
from recon.types import Views
from render import Cameras

NUM_PLANES = 96
LONG_SIDE_PX = 96
# A pixel counts if its windows correlate at least this well and a source view agrees.
MIN_ZNCC = 0.8
# Views with a smaller fraction of agreeing pixels than this have no range of their own.
MIN_FRACTION = 0.01
# Factors on the 2 % and 98 % quantiles of the depths.
NEAR_MARGIN, FAR_MARGIN = 0.8, 1.3
MAX_SAMPLES = 100_000
# Near, far and median depth of a single view, which has nothing to be compared with.
SINGLE_VIEW_RANGE = (1.0, 20.0, 3.0)


@dataclass(frozen=True)
class DepthRange:
    """Depths (z, world units) of every view."""

    near: Float[Tensor, " v"]
    far: Float[Tensor, " v"]
    median: Float[Tensor, " v"]


def estimate_depth_range(views: Views) -> DepthRange:
    """Return the depth range that the capture states, else the estimate of a coarse plane sweep.

    A single view has no scale: it gets a range that suits indoor and outdoor scenes in metres.
    """
    if views.depth_bounds is None and len(views) == 1:
        return DepthRange(*(views.images.new_tensor([depth]) for depth in SINGLE_VIEW_RANGE))
    if views.depth_bounds is None:
        return _estimate(views.resized(LONG_SIDE_PX / max(views.images.shape[-2:])))
    near, far = views.depth_bounds.unbind(-1)
    # The median is approximated by the middle of the disparities.
    return DepthRange(near, far, 2 / (1 / near + 1 / far))


def _estimate(views: Views) -> DepthRange:
    """Match small images on planes over all depths that the views can share.

    The range covers the 2 % to 98 % quantiles of the mutually consistent depths, with a margin.
    """
    images, cameras, count = views.images, views.cameras, len(views)
    size = images.shape[-2:]
    sources = nearest_views(cameras, 3)
    planes = torch.stack(
        [uniform_motion_planes(cameras, v, sources[v], NUM_PLANES) for v in range(count)]
    )
    steps = torch.diff(planes, dim=1, append=2 * planes[:, -1:] - planes[:, -2:-1])
    best = []
    for v in range(count):
        volume = cost_volume(images, cameras, v, sources[v], planes[v], radii=(2,))
        cost, index = volume.min(0)
        best.append(torch.stack([planes[v][index], steps[v][index], 1 - 2 * cost]))
    disparity, step, score = torch.stack(best, 1)
    maps = DepthMaps(cameras, disparity, 1.5 * step, images)
    consistent = []
    for v in range(count):
        agreed = torch.zeros_like(score[v], dtype=torch.bool)
        for s in sources[v]:
            agreed |= maps.compare(v, s).agrees
        # The farthest plane also matches everything that lies behind it.
        consistent.append(agreed & (score[v] > MIN_ZNCC) & (disparity[v] > planes[v, 0]))
    reliable = torch.stack(consistent) & (views.masks[:, 0] > 0.5)
    searched = [(float(row[0]), float(row[-1])) for row in planes]
    min_count = max(int(MIN_FRACTION * size[0] * size[1]), 8)
    origins, directions = cameras.rays()
    points = (origins + directions / disparity[..., None])[reliable]
    depths = [1 / d[r] for d, r in zip(disparity, reliable, strict=True)]
    return ranges_of_points(cameras, depths, points, searched, min_count)


def ranges_of_points(
    cameras: Cameras,
    depths: list[Float[Tensor, " _"]],
    points: Float[Tensor, "p 3"],
    searched: list[tuple[float, float]],
    min_count: int,
) -> DepthRange:
    """Compute a robust depth range of each view from the points that all views found.

    A view's range covers the depths it found itself and those of all points inside its image. A
    view with too few of either takes the median of the others' ranges.

    Args:
        cameras: Cameras of the views.
        depths: Depths that each view found itself.
        points: Points that any view found, in the world frame.
        searched: Lowest and highest disparity that each view searched, for a scene without any
            usable view.
        min_count: Number of depths that a view needs.
    """
    rows: list[Tensor | None] = []
    for v, own in enumerate(depths):
        pixels, depth = cameras[v].project(points)
        visible = inside(pixels, depth, cameras.width, cameras.height)
        found = [_quantiles(each) for each in (own, depth[visible]) if len(each) >= min_count]
        if not found:
            rows.append(None)
            continue
        near, far = (torch.stack(row) for row in zip(*(q[:2] for q in found), strict=True))
        rows.append(torch.stack([NEAR_MARGIN * near.min(), FAR_MARGIN * far.max(), found[0][2]]))
    known = [row for row in rows if row is not None]
    if known:
        default = torch.stack(known).median(0).values
    else:
        low, high = max(s[0] for s in searched), min(s[1] for s in searched)
        low = min(low, high / 4)
        default = depths[0].new_tensor([1 / high, 1 / low, 2 / (low + high)])
    table = torch.stack([default if row is None else row for row in rows])
    return DepthRange(*table.unbind(-1))


def _quantiles(depths: Float[Tensor, " _"]) -> Float[Tensor, "3"]:
    """Return the 2 %, 98 % and 50 % quantiles."""
    # torch.quantile sorts, and takes at most 16 million values: a subset is enough.
    subset = depths[:: 1 + len(depths) // MAX_SAMPLES]
    return torch.quantile(subset, subset.new_tensor([0.02, 0.98, 0.5]))
