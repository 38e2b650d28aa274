"""The object in the middle of a scene: by masks of the photos, or by the ground and what is apart.

Cameras around an object look at it: it is where their axes meet, nearer than they are. It stands on
the ground, the plane below it that most Gaussians are on (RANSAC, Fischler & Bolles 1981), and
ends where nothing connects it to the rest.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.cleaning.sky import mean_up
from recon.errors import InputError
from recon.meshing.triangles import library
from recon.types import Views
from render import Cameras, Gaussians

RANDOM_SEED, MAX_SAMPLES = 0, 20_000


@dataclass(frozen=True)
class ObjectConfig:
    """What the object is. Lengths are relative to the median distance of the cameras from it."""

    radius: float = 0.8
    """Distance from the middle beyond which nothing belongs to it."""
    max_tilt_deg: float = 30.0
    """Largest angle between the normal of the ground and the up direction of the cameras."""
    thickness: float = 0.02
    """Height above the ground up to which Gaussians belong to the ground."""
    min_ground: float = 0.08
    """Fraction of the Gaussians around the middle that a ground has at least."""
    planes: int = 1000
    """Number of planes that are tried."""
    min_opacity: float = 0.3
    """Opacity below which Gaussians connect nothing."""
    cells: int = 48
    """Cells per radius of the grid in which parts are connected."""
    min_inside: float = 0.9
    """With masks: of the views with a Gaussian in the image, the fraction with it in the mask."""


def object_by_masks(
    gaussians: Gaussians, views: Views, config: ObjectConfig | None = None
) -> Bool[Tensor, " n"]:
    """Return which Gaussians are inside the masks of the photos, wherever they are in the image.

    Args:
        gaussians: The scene.
        views: Its photos; their masks are 1 for the object.
        config: What the object is; has defaults.
    """
    config = config or ObjectConfig()
    inside, seen = torch.zeros(len(gaussians)), torch.zeros(len(gaussians))
    for view in range(len(views)):
        camera = views.cameras[view]
        pixels, depth = camera.project(gaussians.means)
        index = views.cameras.contains(pixels, depth).nonzero()[:, 0]
        column, row = pixels[index].long().unbind(-1)
        inside[index] += views.masks[view, 0, row, column]
        seen[index] += 1
    return (seen > 0) & (inside >= config.min_inside * seen)


def object_by_ground(
    gaussians: Gaussians, cameras: list[Cameras], config: ObjectConfig | None = None
) -> Bool[Tensor, " n"]:
    """Return which Gaussians belong to the object that cameras around it look at.

    Args:
        gaussians: The scene.
        cameras: Cameras of one view each, with the axis v.
        config: What the object is; has defaults.

    Raises:
        InputError: The axes of the cameras do not meet, or there is nothing where they do.
    """
    config = config or ObjectConfig()
    middle, distance = _meeting_point(cameras)
    away = gaussians.means - middle
    kept: Tensor = away.norm(dim=1) < config.radius * distance
    if not kept.any():
        raise InputError(
            "there is nothing where the axes of the cameras meet; expected photos from around an "
            "object"
        )
    height = _height_above_ground(away[kept] / distance, mean_up(cameras), config)
    if height is not None:
        kept[kept.clone()] = height > config.thickness
    solid = kept & (gaussians.opacities >= config.min_opacity)
    if not solid.any():
        raise InputError("nothing stands on the ground where the axes of the cameras meet")
    cell = config.radius * distance / config.cells
    part = _central_part(away[solid] / cell, away[kept] / cell)
    kept[kept.clone()] = part
    return kept


def _meeting_point(cameras: list[Cameras]) -> tuple[Float[Tensor, "3"], float]:
    """Return the point nearest to the axes of all cameras, and their median distance from it."""
    axes = torch.cat([camera.viewmats[:, 2, :3] for camera in cameras]).double()
    centers = torch.cat([camera.centers for camera in cameras]).double()
    across = torch.eye(3).double() - axes[:, :, None] * axes[:, None]
    total = across.sum(0)
    if float(torch.linalg.eigvalsh(total)[0]) < 1e-3 * len(axes):
        raise InputError(
            "the axes of the cameras are parallel and do not meet; expected photos from around an "
            "object"
        )
    middle = torch.linalg.solve(total, (across @ centers[..., None]).sum(0)[:, 0])
    ahead = ((middle - centers) * axes).sum(1)
    if float((ahead > 0).double().mean()) < 0.5:
        raise InputError(
            "the cameras look away from each other; expected photos from around an object"
        )
    return middle.float(), float((middle - centers).norm(dim=1).median())


def _height_above_ground(
    points: Float[Tensor, "n 3"], up: Float[Tensor, "3"], config: ObjectConfig
) -> Float[Tensor, " n"] | None:
    """Return heights above the plane that most points are on; None if there is no such plane."""
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    sample = points[torch.randperm(len(points), generator=generator)[:MAX_SAMPLES]]
    if len(sample) < 3:
        return None
    corners = sample[torch.randint(len(sample), (config.planes, 3), generator=generator)]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.nn.functional.normalize(normals, dim=1)
    normals = normals * (normals @ up).sign()[:, None]
    upright = normals @ up > np.cos(np.radians(config.max_tilt_deg))
    normals, corners = normals[upright], corners[upright]
    best, ground = 0.0, None
    for normal, corner in zip(normals, corners[:, 0], strict=True):
        height = (sample - corner) @ normal
        on_it = float((height.abs() < config.thickness / 2).float().mean())
        if on_it > best:
            best, ground = on_it, (normal, corner)
    if ground is None or best < config.min_ground:
        return None
    height_of_all: Tensor = (points - ground[1]) @ ground[0]
    return height_of_all


def _central_part(solid: Float[Tensor, "m 3"], points: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Return which points are in the part of a grid that is largest and nearest to its middle.

    Args:
        solid: Points that connect cells, in cells from the middle.
        points: Points to decide on.
    """
    ndimage = library("scipy.ndimage")
    low = points.floor().min(0).values - 1
    shape = tuple(int(n) for n in (points.floor().max(0).values - low + 2).tolist())
    count = np.zeros(shape, np.float32)
    cells = tuple((solid.floor() - low).long().T.numpy())
    np.add.at(count, cells, 1)
    label, _ = ndimage.label(count > 0, np.ones((3, 3, 3)))
    # Each cell counts the less, the farther it is from the middle.
    weight = 1 / (1 + solid.square().sum(1).numpy())
    largest = int(np.bincount(label[cells], weight).argmax())
    grown = ndimage.binary_dilation(label == largest, np.ones((3, 3, 3)))
    where = tuple((points.floor() - low).long().T.numpy())
    return torch.from_numpy(grown[where])
