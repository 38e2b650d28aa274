"""Equirectangular images of all directions around a camera."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from render.cameras import Cameras, pixel_centers
from render.gaussians import Gaussians
from render.rasterize import rasterize
from render.types import RasterizeSettings, RenderOutput

# Rotations of camera from face, columns right, down, forward of the face.
FACES: dict[str, list[list[int]]] = {
    "front": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "right": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
    "back": [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
    "left": [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
    "up": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    "down": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
}
# Half of the extent of a face at depth 1; beyond 1 it overlaps its neighbours, and the seams are
# blended there, where each face sorts and projects the Gaussians by its own axis.
HALF_EXTENT = 1.2
# Pixels of a face per pixel of the panorama at the middle of the face, where a face is coarsest.
OVERSAMPLING = 1.5


def panorama_directions(width: int, height: int, like: Tensor) -> Float[Tensor, "h w 3"]:
    """Return the unit directions of the pixels of an equirectangular image, in the camera's axes.

    The middle of the image is ahead (+z); longitude grows to the right (x), latitude falls
    downwards (y), as in COLMAP's model EQUIRECTANGULAR.
    """
    rows, columns = pixel_centers(height, width, like)
    longitude = (columns / width - 0.5) * 2 * math.pi
    latitude = (rows / height - 0.5) * math.pi
    across = latitude.cos()
    return torch.stack([across * longitude.sin(), latitude.sin(), across * longitude.cos()], -1)


def rasterize_panorama(
    gaussians: Gaussians,
    camera: Cameras,
    width: int,
    *,
    backgrounds: Float[Tensor, " c"] | None = None,
    settings: RasterizeSettings | None = None,
) -> RenderOutput:
    """Render all directions around a camera into an equirectangular image of width x width / 2.

    Six overlapping pinhole images are rendered by `rasterize`, resampled bilinearly and blended.

    Args:
        gaussians: one scene, world frame, [n].
        camera: one camera, with or without the axis v; its pose counts, not its intrinsics.
        width: of the image (px), even.
        backgrounds: colour [c] behind the Gaussians; black by default.
        settings: thresholds and what to render; gsplat's defaults.

    Returns:
        One image [1 c h w]; `depth` and `expected_depth` are distances along the rays (world
        units), since no axis suits all directions.

    Raises:
        ValueError: the width is odd or less than 4.
    """
    if width < 4 or width % 2:
        raise ValueError(f"width is {width}, expected an even number of pixels, at least 4")
    viewmat = camera.flatten().viewmats[0]
    directions = panorama_directions(width, width // 2, viewmat)
    side = math.ceil(2 * HALF_EXTENT * OVERSAMPLING * width / (2 * math.pi))
    total: RenderOutput | None = None
    weights = torch.zeros_like(directions[..., 0])
    for columns in FACES.values():
        face = _face_camera(viewmat, columns, side)
        output = rasterize(gaussians, face, settings=settings)
        x, y, z = (directions @ viewmat.new_tensor(columns)).unbind(-1)
        ratio = torch.stack([x, y], -1) / z.clamp_min(1e-6)[..., None]
        reach = torch.where(z > 0, ratio.abs().amax(-1), HALF_EXTENT)
        weight = ((HALF_EXTENT - reach) / (2 * (HALF_EXTENT - 1))).clamp(0, 1)
        grid = (ratio / HALF_EXTENT).clamp(-2, 2)[None]
        # Depth along the axis of the face becomes distance along the ray.
        stretch = weight / z.clamp_min(1e-6)
        sampled = replace(
            output,
            rgb=weight * _sampled(output.rgb, grid),
            alpha=weight * _sampled(output.alpha, grid),
            depth=stretch * _sampled(output.depth, grid),
        )
        weights = weights + weight
        total = sampled if total is None else _sum(total, sampled)
    assert total is not None
    alpha = total.alpha / weights
    rgb = total.rgb / weights
    if backgrounds is not None:
        rgb = rgb + (1 - alpha) * backgrounds.reshape(-1, 1, 1)
    return replace(total, rgb=rgb, alpha=alpha, depth=total.depth / weights)


def _face_camera(viewmat: Float[Tensor, "4 4"], columns: list[list[int]], side: int) -> Cameras:
    """Return the pinhole camera [1] of a face, which looks beyond its edges."""
    face_from_camera = torch.eye(4).to(viewmat)
    face_from_camera[:3, :3] = viewmat.new_tensor(columns).T
    focal_px = side / (2 * HALF_EXTENT)
    return Cameras.from_focal((face_from_camera @ viewmat)[None], focal_px, side, side)


def _sampled(
    images: Float[Tensor, "1 c s s"], grid: Float[Tensor, "1 h w 2"]
) -> Float[Tensor, "1 c h w"]:
    return torch.nn.functional.grid_sample(
        images, grid.to(images), padding_mode="border", align_corners=False
    )


def _sum(a: RenderOutput, b: RenderOutput) -> RenderOutput:
    return replace(
        a,
        rgb=a.rgb + b.rgb,
        alpha=a.alpha + b.alpha,
        depth=a.depth + b.depth,
        nonfinite=torch.maximum(a.nonfinite, b.nonfinite),
    )
