"""Cameras between others and around them."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from render import Cameras, Gaussians
from render.cameras import look_at
from render.paths import focus_point, interpolate

# Corners of a tetrahedron: right, down, ahead of a camera.
CORNERS = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))
# A camera moves at most by this part of the distance of what it looks at.
FARTHEST = 0.15


def between(scene: Gaussians, cameras: Cameras, part: float) -> Cameras | None:
    """A camera part of the way from each one to its neighbour; None for one camera alone."""
    if len(cameras) < 2:
        return None
    nearest = _away(cameras).argmin(1)
    steps = round(1 / part)
    found = [
        interpolate(scene, cameras[[i, int(nearest[i])]], steps + 1)[[1]]
        for i in range(len(cameras))
    ]
    return Cameras.cat(found)


def around(scene: Gaussians, cameras: Cameras, part: float) -> Cameras:
    """Four cameras beside each one, before and behind it, which look at what it looks at: away by
    part of the way to its neighbour."""
    steps = part * _away(cameras).min(1).values
    found = []
    for i in range(len(cameras)):
        camera = cameras[[i]]
        focus = focus_point(scene, camera)
        step = min(float(steps[i]), FARTHEST * float((focus - camera.centers[0]).norm()))
        found += [
            _moved(camera, normalize(camera.centers.new_tensor(corner), dim=0) * step, focus)
            for corner in CORNERS
        ]
    return Cameras.cat(found)


def _away(cameras: Cameras) -> Float[Tensor, "v v"]:
    """Distances to the others."""
    return torch.cdist(cameras.centers, cameras.centers).fill_diagonal_(torch.inf)


def _moved(camera: Cameras, step: Float[Tensor, "3"], focus: Float[Tensor, "3"]) -> Cameras:
    """Moved along its own axes, then turned towards a point."""
    down, c2w = camera.viewmats[0, 1, :3], camera.viewmats[0, :3, :3].mT
    viewmat = look_at(camera.centers[0] + c2w @ step, focus, -down)
    return replace(camera, viewmats=viewmat[None])
