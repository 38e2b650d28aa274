"""What rays hit first in a layout: solids and soups together."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from training.data.procedural.layout import Layout
from training.data.procedural.solids import (
    Hits,
    Solids,
    intersect,
    local_surface,
    world_normals,
)


@dataclass(frozen=True)
class FirstHits:
    """The first surface of every ray."""

    depth: Float[Tensor, "r"]
    """Ray parameter; NEVER where nothing is hit."""
    owner: Int[Tensor, "r"]
    """Whose look it has: a visible solid's, or a soup's, which are counted after the solids."""
    solids: Hits
    """What is hit when there are no soups."""
    triangle: Int[Tensor, "r"]
    """Triangle of the soup; of no meaning on solids."""

    def select(self, which: Int[Tensor, "s"]) -> "FirstHits":
        """Some of the rays."""
        solids = Hits(*(t[which] for t in vars(self.solids).values()))
        return FirstHits(self.depth[which], self.owner[which], solids, self.triangle[which])


def first_hits(
    layout: Layout, origins: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
) -> FirstHits:
    """Nearest visible surface in front of the origins."""
    solids = intersect(layout.solids, origins, dirs)
    depth, owner = solids.depth, solids.owner
    triangle = torch.zeros_like(owner)
    for i, soup in enumerate(layout.soups):
        reach, number = soup.hit(origins, dirs)
        nearer = reach < depth
        depth = torch.where(nearer, reach, depth)
        owner = torch.where(nearer, len(layout.solids.centers) + i, owner)
        triangle = torch.where(nearer, number, triangle)
    return FirstHits(depth, owner, solids, triangle)


def surface(
    layout: Layout, hits: FirstHits, points: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 2"]]:
    """Unit normals, and world-sized texture coordinates, at the hit points."""
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
    return 1 / solids.to_local.norm(dim=-1)


def _box_mapped(place: Float[Tensor, "r 3"], normals: Float[Tensor, "r 3"]) -> Float[Tensor, "r 2"]:
    """Coordinates on the plane that the surface faces most."""
    axis = normals.abs().argmax(-1)
    pairs = torch.tensor([[1, 2], [0, 2], [0, 1]], device=place.device)[axis]
    return place.gather(1, pairs)
