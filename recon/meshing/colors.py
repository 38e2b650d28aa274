"""Colours of points on a surface: from the cameras that see them best."""

import numpy as np
import torch
from jaxtyping import Float
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
    maps: list[DepthMap], points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Return the colours of points, display sRGB in [0, 1].

    Args:
        maps: What the cameras see.
        points: Points of the surface.
        normals: Its unit normals there.
    """
    reference = float(torch.cat([each.depth[each.depth > 0] for each in maps]).median())
    colors = np.full((len(points), 3), 0.5, np.float32)
    for first in range(0, len(points), BLOCK):
        part = slice(first, first + BLOCK)
        where, normal = (torch.from_numpy(v[part]).float() for v in (points, normals))
        total, weight = torch.zeros(len(where), 3), torch.zeros(len(where), 1)
        for each in maps:
            _add_view(each, reference, where, normal, (total, weight))
        seen = weight[:, 0] > 0
        colors[part][seen.numpy()] = (total / weight.clamp_min(1e-30))[seen].numpy()
    return colors


def _add_view(
    seen: DepthMap,
    reference: float,
    points: torch.Tensor,
    normals: torch.Tensor,
    sums: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Add the colours that one camera sees, times their weights, and the weights.

    Args:
        seen: What the camera sees.
        reference: Distance at which the weight does not change (world units).
        points: Points of the surface.
        normals: Its unit normals there.
        sums: Sums to add to.
    """
    total, weight = sums
    camera = seen.camera
    px, z = (value[0] for value in camera.project(points))
    size = px.new_tensor([camera.width, camera.height])
    inside = ((z > 0) & (px >= 0).all(1) & (px < size).all(1)).nonzero()[:, 0]
    grid = (2 * px[inside] / size - 1)[None, None]
    values = torch.cat([seen.rgb, seen.depth[None]])[None]
    found = grid_sample(values, grid, align_corners=False, padding_mode="border")[0, :, 0].T
    away = camera.centers[0] - points[inside]
    distance = away.norm(dim=1).clamp_min(1e-12)
    cosine = (away * normals[inside]).sum(1) / distance
    visible = (found[:, 3] - z[inside]).abs() < TOLERANCE * z[inside]
    amount = (cosine.clamp_min(0.02) * reference / distance) ** SHARPNESS
    amount = amount * torch.where(visible & (cosine > 0), 1.0, HIDDEN_WEIGHT)
    total[inside] += amount[:, None] * found[:, :3]
    weight[inside] += amount[:, None]
