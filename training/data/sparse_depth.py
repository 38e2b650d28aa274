"""Depth at structure-from-motion points, and the depth range of views."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.depth_range import FAR_MARGIN, NEAR_MARGIN, estimate_depth_range
from recon.types import Views
from render import Cameras
from training.data.photo_windows import Photo
from training.data.sparse_points import SparsePoints

# A view's depth range follows from its points if it has at least this number of them.
MIN_POINTS = 16
QUANTILES = (0.02, 0.98)


def sparse_depths(
    points: SparsePoints | None, photos: list[int], cameras: Cameras
) -> tuple[Float[Tensor, "v h w"], Float[Tensor, "v 2"]]:
    """Return depth at the points that each photo sees, and its range as `recon` would estimate it.

    Views with few points take the range of the others; it is NaN if all have few.
    """
    depth = torch.full((len(photos), cameras.height, cameras.width), float("nan"))
    ranges = torch.full((len(photos), 2), float("nan"))
    if points is None:
        return depth, ranges
    margins = np.array([NEAR_MARGIN, FAR_MARGIN], np.float32)
    for view, photo in enumerate(photos):
        depth[view], z = sparse_depth(points.xyz[points.seen[photo]], cameras[view])
        if len(z) >= MIN_POINTS:
            ranges[view] = torch.from_numpy(margins * np.quantile(z.numpy(), QUANTILES))
    known = ranges[:, 0].isfinite()
    if bool(known.any()):
        ranges[~known] = torch.stack([ranges[known, 0].amin(), ranges[known, 1].amax()])
    return depth, ranges


def other_ranges(
    photos: list[Photo], images: Float[Tensor, "v 3 h w"], cameras: Cameras, everyone: Cameras
) -> Float[Tensor, "v 2"]:
    """Return near and far that the capture states, else of a coarse plane sweep of the context.

    Targets take the range of the whole context. A single view has no parallax: its range follows
    from the extent of all cameras of the capture.
    """
    count = len(photos)
    stated = [p.depth_bounds for p in photos if p.depth_bounds is not None]
    if len(stated) == count:
        bounds = torch.stack(stated)
    elif count < 2:
        extent = (everyone.centers - cameras.centers[0]).norm(dim=1).amax()
        bounds = torch.stack([0.5 * extent, 20 * extent])[None]
    else:
        whole = torch.ones_like(images[:count, :1])
        names = tuple(map(str, range(count)))
        found = estimate_depth_range(Views(images[:count], whole, whole, cameras[:count], names))
        bounds = torch.stack([found.near, found.far], 1)
    ends = torch.stack([bounds[:, 0].amin(), bounds[:, 1].amax()])
    return torch.cat([bounds, ends.expand(len(images) - count, 2)])


def sparse_depth(
    points: Float[np.ndarray, "m 3"], camera: Cameras
) -> tuple[Float[Tensor, "h w"], Float[Tensor, " k"]]:
    """Write the depths (z) of visible points to the pixels that contain their projections.

    Returns:
        Depth, that of the nearest point where there are several and NaN where there is none; and
        the depths of all points inside the image.
    """
    width, height = camera.width, camera.height
    depth = torch.full((height * width,), float("nan"))
    means2d, z = camera.project(torch.from_numpy(points))
    x, y = means2d.floor().unbind(-1)
    inside = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    z, pixel = z[inside], (y[inside] * width + x[inside]).long()
    nearest = torch.full_like(depth, float("inf")).scatter_reduce(0, pixel, z, "amin")
    depth = torch.where(nearest.isfinite(), nearest, depth)
    return depth.reshape(height, width), z
