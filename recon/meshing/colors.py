"""Colours of points on a surface: from the cameras that see them best."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.nn.functional import grid_sample

from recon.meshing.depth_maps import DepthMap

# Points that are coloured at once.
BLOCK = 200_000
# Cosine of the angle to the normal and closeness count by this power: the best views dominate.
SHARPNESS = 4.0
# Weight of a camera that does not see a point, against gaps.
HIDDEN_WEIGHT = 1e-6
# Difference of depths up to which a point is visible, in depths.
TOLERANCE = 0.02


def point_colors(
    maps: list[DepthMap],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    images: list[Float[torch.Tensor, "4 _ _"]] | None = None,
    sharpness: float = SHARPNESS,
) -> Float[np.ndarray, "n 3"]:
    """Return the colours of points, display sRGB in [0, 1].

    Args:
        maps: What the cameras see.
        points: Points of the surface.
        normals: Its unit normals there.
        images: Colours and mask of the views of the maps, of any size; the maps' own if omitted.
        sharpness: Power by which the best views dominate.
    """
    if images is None:
        images = [torch.cat([each.rgb, torch.ones_like(each.rgb[:1])]) for each in maps]
    reference = float(torch.cat([each.depth[each.depth > 0] for each in maps]).median())
    colors = np.full((len(points), 3), 0.5, np.float32)
    for first in range(0, len(points), BLOCK):
        part = slice(first, first + BLOCK)
        where, normal = (torch.from_numpy(v[part]).float() for v in (points, normals))
        # High powers are beyond float32.
        total, weight = (torch.zeros(len(where), size, dtype=torch.float64) for size in (3, 1))
        for each, image in zip(maps, images, strict=True):
            _add_view(each, image, reference, where, normal, (total, weight), sharpness)
        seen = weight[:, 0] > 0
        colors[part][seen.numpy()] = (total[seen] / weight[seen]).numpy()
    return colors


def _add_view(
    seen: DepthMap,
    image: torch.Tensor,
    reference: float,
    points: torch.Tensor,
    normals: torch.Tensor,
    sums: tuple[torch.Tensor, torch.Tensor],
    sharpness: float,
) -> None:
    """Add the colours that one camera sees, times their weights, and the weights.

    Args:
        seen: What the camera sees.
        image: Its colours and mask [4 h w].
        reference: Distance at which the weight does not change (world units).
        points: Points of the surface.
        normals: Its unit normals there.
        sums: Sums to add to.
        sharpness: Power by which the best views dominate.
    """
    total, weight = sums
    inside, visible, found = _seen(seen, image, points)
    away = seen.camera.centers[0] - points[inside]
    distance = away.norm(dim=1).clamp_min(1e-12)
    cosine = (away * normals[inside]).sum(1) / distance
    amount = (cosine.clamp_min(0.02) * reference / distance).double() ** sharpness
    amount = amount * torch.where(visible & (cosine > 0), 1.0, HIDDEN_WEIGHT)
    # Pixels that are masked out have no colour of the scene.
    amount = amount * found[:, 3]
    total[inside] += amount[:, None] * found[:, :3]
    weight[inside] += amount[:, None]


def _seen(
    seen: DepthMap, image: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the indices of points in an image, whether they are visible, and their pixels."""
    camera = seen.camera
    px, z = (value[0] for value in camera.project(points))
    size = px.new_tensor([camera.width, camera.height])
    inside = camera.contains(px, z).nonzero()[:, 0]
    grid = (2 * px[inside] / size - 1)[None, None]
    found, depth = (
        grid_sample(values[None], grid, align_corners=False, padding_mode="border")[0, :, 0].T
        for values in (image, seen.depth[None])
    )
    visible = (depth[:, 0] - z[inside]).abs() < TOLERANCE * z[inside]
    return inside, visible, found


def masked_points(
    maps: list[DepthMap],
    points: Float[np.ndarray, "n 3"],
    images: list[Float[torch.Tensor, "4 _ _"]],
) -> Bool[np.ndarray, " n"]:
    """Return which points most photos that see them have masked out: they are not of the scene.

    Args:
        maps: What the cameras see.
        points: Points of the surface.
        images: Colours and mask of the views of the maps, of any size.
    """
    where = torch.from_numpy(points).float()
    balance = torch.zeros(len(where))
    for each, image in zip(maps, images, strict=True):
        inside, visible, found = _seen(each, image, where)
        balance[inside[visible]] += (2 * found[visible, 3] - 1).sign()
    return (balance < 0).numpy()
