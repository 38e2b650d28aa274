"""First hits of rays in a layout of solids and triangle soups."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.tensors import TensorStruct
from training.data.procedural.layout import Layout
from training.data.procedural.solids import (
    Hits,
    Solids,
    intersect,
    local_surface,
    world_normals,
)


@dataclass(frozen=True)
class FirstHits(TensorStruct, axis="r"):
    """The first surface of every ray."""

    depth: Float[Tensor, "*r"]
    """Ray parameter; NEVER where nothing is hit."""
    owner: Int[Tensor, "*r"]
    """Index of the material: of a visible solid, or of a soup, which follow the solids."""
    solids: Hits
    """First hits among the solids alone."""
    triangle: Int[Tensor, "*r"]
    """Index of the triangle in its soup; undefined on solids."""


def first_hits(
    layout: Layout, origins: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
) -> FirstHits:
    """Find the nearest visible surface in front of each origin."""
    solids = intersect(layout.solids, origins, dirs)
    depth, owner = solids.depth, solids.owner
    triangle = torch.zeros_like(owner)
    for i, soup in enumerate(layout.soups):
        soup_depth, index = soup.hit(origins, dirs)
        nearer = soup_depth < depth
        depth = torch.where(nearer, soup_depth, depth)
        owner = torch.where(nearer, len(layout.solids.centers) + i, owner)
        triangle = torch.where(nearer, index, triangle)
    return FirstHits(depth, owner, solids, triangle)


def surface(
    layout: Layout, hits: FirstHits, points: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 2"]]:
    """Return unit normals, and texture coordinates in world units, at the hit points."""
    solids = layout.solids
    local, local_normals = local_surface(solids, hits.solids, points)
    normals = world_normals(solids, hits.solids, local_normals)
    uv = _box_mapped(_sizes(solids)[hits.solids.solid] * local, local_normals)
    for i, soup in enumerate(layout.soups):
        mine = (hits.owner == len(solids.centers) + i).nonzero()[:, 0]
        if len(mine):
            normals[mine] = soup.normal_at(hits.triangle[mine], points[mine], dirs[mine])
            uv[mine] = _box_mapped(points[mine] - soup.center, normals[mine])
    return normals, uv


def _sizes(solids: Solids) -> Float[Tensor, "n 3"]:
    sizes: Tensor = 1 / solids.to_local.norm(dim=-1)
    return sizes


def _box_mapped(
    points: Float[Tensor, "r 3"], normals: Float[Tensor, "r 3"]
) -> Float[Tensor, "r 2"]:
    """Project to the coordinate plane that is closest to perpendicular to the normal."""
    axis = normals.abs().argmax(-1)
    pairs = torch.tensor([[1, 2], [0, 2], [0, 1]], device=points.device)[axis]
    return points.gather(1, pairs)
