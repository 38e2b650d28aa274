"""Fusion of depth maps in a grid of signed distances (Curless & Levoy 1996)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.errors import InputError
from recon.meshing.depth_maps import DepthMap
from recon.types import Progress

# Largest number of voxels, by which the memory is bounded (10 bytes each), and of those that are
# projected at once.
MAX_VOXELS, SLAB_VOXELS = 8_000_000, 500_000
# Quantile of the points that bounds the grid, and its largest extent, in median distances between
# the cameras and the surfaces: beyond are the sky and the far background.
BOUND_QUANTILE, MAX_DISTANCES = 0.005, 3.0
# Size of a voxel and truncation, in footprints of a pixel and in voxels.
VOXEL_FOOTPRINTS, TRUNCATION_VOXELS, TRUNCATION_FOOTPRINTS = 1.0, 3.0, 3.0
# Largest thickness of what no camera sees behind a surface, as a fraction of the grid's diagonal.
MAX_THICKNESS = 0.1
MAX_POINTS = 200_000
# Weight of the free space of a ray that meets nothing, relative to that of a surface.
FREE_WEIGHT = 0.3


@dataclass(frozen=True)
class Volume:
    """Signed distances at the points of a grid, positive in free space."""

    low: Float[Tensor, "3"]
    """Position of the first point."""
    voxel: float
    """Distance between neighbours (world units)."""
    distance: Float[Tensor, "x y z"]
    """Signed distance in truncations, -1 to 1."""
    weight: Float[Tensor, "x y z"]
    """Sum of the confidences; 0 where nothing was measured."""
    hidden: Bool[Tensor, "x y z"]
    """Whether a point is closely behind a surface for some camera."""


def fuse(maps: list[DepthMap], progress: Progress, max_voxels: int = MAX_VOXELS) -> Volume:
    """Fuse depth maps.

    Args:
        maps: What the cameras see.
        progress: Receives the completed fraction.
        max_voxels: Largest number of voxels.

    Raises:
        InputError: No camera sees a surface.
    """
    low, high, footprint = _bounds(maps)
    extent = (high - low).clamp_min(1e-12)
    voxel = max(VOXEL_FOOTPRINTS * footprint, float(extent.prod() / max_voxels) ** (1 / 3))
    while math.prod(shape := [int(e / voxel) + 2 for e in extent.tolist()]) > max_voxels:
        voxel *= 1.02
    thickness = MAX_THICKNESS * float(extent.norm())
    total, weight = torch.zeros(shape), torch.zeros(shape)
    hidden = torch.zeros(shape, dtype=torch.bool)
    rows = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    y, z = (torch.arange(shape[axis]) * voxel + low[axis] for axis in (1, 2))
    for first in range(0, shape[0], rows):
        slab = slice(first, min(first + rows, shape[0]))
        x = torch.arange(slab.start, slab.stop) * voxel + low[0]
        points = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), -1).reshape(-1, 3)
        sums = torch.zeros(len(points)), torch.zeros(len(points))
        behind = torch.zeros(len(points), dtype=torch.bool)
        for each in maps:
            _integrate(each, points, voxel, thickness, (*sums, behind))
        total[slab] = sums[0].reshape(total[slab].shape)
        weight[slab] = sums[1].reshape(total[slab].shape)
        hidden[slab] = behind.reshape(total[slab].shape)
        progress(slab.stop / shape[0])
    return Volume(low, voxel, total / weight.clamp_min(1e-6), weight, hidden)


def _integrate(
    seen: DepthMap,
    points: Float[Tensor, "p 3"],
    voxel: float,
    thickness: float,
    sums: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Add what one camera says about points to the distances, weights and hidden points."""
    camera = seen.camera
    px, z = (value[0] for value in camera.project(points))
    # Compared as floats: a point at the camera's plane has coordinates that no integer holds.
    index = camera.contains(px, z).nonzero()[:, 0]
    column, row = px[index].long().unbind(1)
    depth, confidence = (
        values.reshape(-1)[row * camera.width + column] for values in (seen.depth, seen.confidence)
    )
    z = z[index]
    footprint = depth / camera.Ks[0, 0, 0]
    truncation = (TRUNCATION_FOOTPRINTS * footprint).clamp_min(TRUNCATION_VOXELS * voxel)
    distance = depth - z
    free = confidence < 0
    known = free | ((confidence > 0) & (distance > -truncation))
    value = torch.where(free, 1.0, (distance / truncation).clamp_max(1))
    amount = torch.where(free, FREE_WEIGHT * -confidence, confidence.clamp_min(0)) * known
    total, weight, hidden = sums
    total[index] += amount * value
    weight[index] += amount
    hidden[index] |= (confidence > 0) & (distance < 0) & (distance > -thickness)


def _bounds(maps: list[DepthMap]) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"], float]:
    """Return the corners of the grid, and the median footprint of a pixel on the surfaces."""
    points, distances, footprints = [], [], []
    for each in maps:
        origins, dirs = (rays[0] for rays in each.camera.rays())
        solid = each.confidence > 0
        depth = each.depth[solid]
        step = 1 + len(depth) * len(maps) // MAX_POINTS
        points.append((origins[solid] + depth[:, None] * dirs[solid])[::step])
        distances.append(depth[::step])
        footprints.append((depth / each.camera.Ks[0, 0, 0])[::step])
    found = torch.cat(points).double()
    if len(found) == 0:
        raise InputError(
            "no camera sees a surface; expected cameras of this scene; pass those of its capture"
        )
    reach = MAX_DISTANCES * float(torch.cat(distances).median())
    middle = found.median(0).values
    found = found[(found - middle).norm(dim=1) <= reach]
    low, high = (
        torch.from_numpy(np.quantile(found.numpy(), q, axis=0))
        for q in (BOUND_QUANTILE, 1 - BOUND_QUANTILE)
    )
    footprint = float(torch.cat(footprints).median())
    margin = 4 * VOXEL_FOOTPRINTS * footprint + 0.01 * float((high - low).norm())
    return (low - margin).float(), (high + margin).float(), footprint
