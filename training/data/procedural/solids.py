"""Intersection of rays with many convex solids at once, each an affinely mapped unit shape.

Every solid yields the interval [enter, leave] in which a ray is inside it, so that one solid can
be cut out of another.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.tensors import TensorStruct

NEVER = 1e9
CUBE, SPHERE, CYLINDER = 0, 1, 2
"""Unit shapes: |x|, |y|, |z| <= 1; radius 1; radius 1 about z with |z| <= 1."""
EPS = 1e-9


@dataclass(frozen=True)
class Solids(TensorStruct):
    """n solids, grouped by shape in the order cube, sphere, cylinder."""

    counts: tuple[int, int, int]
    """Number of solids of each shape."""
    to_local: Float[Tensor, "n 3 3"]
    """Linear part of the map to the unit shape from world."""
    centers: Float[Tensor, "n 3"]
    cutters: Int[Tensor, "n"]
    """Index of the solid that is cut out of this one, or -1."""
    visible: Bool[Tensor, "n"]
    """False for solids that only cut."""


@dataclass(frozen=True)
class Hits(TensorStruct, axis="r"):
    """The first surface of every ray."""

    depth: Float[Tensor, "*r"]
    """Ray parameter; NEVER where nothing is hit."""
    solid: Int[Tensor, "*r"]
    """Index of the solid whose surface is hit: the cutter inside a cut."""
    inner: Bool[Tensor, "*r"]
    """Whether the surface is that of a cutter, seen from inside."""
    owner: Int[Tensor, "*r"]
    """Index of the visible solid."""


def intersect(solids: Solids, origins: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]) -> Hits:
    """Find the nearest visible surface in front of each origin."""
    enter, leave = _intervals(solids, origins, dirs)
    index = torch.arange(enter.shape[1], device=enter.device)
    first, surface = enter, index.expand_as(enter)
    cut = solids.cutters >= 0
    if bool(cut.any()):
        first, surface = _cut(solids, enter, leave, cut)
    ahead = (first > 1e-4) & (first < leave) & solids.visible
    depth, owner = torch.where(ahead, first, NEVER).min(1)
    row = torch.arange(len(depth), device=depth.device)
    solid = surface[row, owner]
    return Hits(depth, solid, solid != owner, owner)


def _cut(
    solids: Solids, enter: Float[Tensor, "r n"], leave: Float[Tensor, "r n"], cut: Bool[Tensor, "n"]
) -> tuple[Float[Tensor, "r n"], Int[Tensor, "r n"]]:
    """Move the entry of a ray that enters inside the cutter to where it leaves the cutter."""
    cutter = solids.cutters.clamp_min(0)
    c_enter, c_leave = enter[:, cutter], leave[:, cutter]
    hollow = cut & (c_enter <= enter) & (c_leave > enter)
    index = torch.arange(enter.shape[1], device=enter.device).expand_as(enter)
    return torch.where(hollow, c_leave, enter), torch.where(hollow, cutter, index)


def _intervals(
    solids: Solids, origins: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r n"]]:
    """Return the ray parameters of entry and exit; (NEVER, -NEVER) for a miss."""
    matrix = solids.to_local.flatten(0, 1)
    d = (dirs @ matrix.T).unflatten(1, (-1, 3))
    shift = (solids.to_local @ solids.centers[..., None])[..., 0]
    o = (origins @ matrix.T).unflatten(1, (-1, 3)) - shift
    cubes, spheres, cylinders = (
        (o_part, d_part)
        for o_part, d_part in zip(o.split(solids.counts, 1), d.split(solids.counts, 1), strict=True)
    )
    pieces = [_cube(*cubes), _sphere(*spheres), _cylinder(*cylinders)]
    enter = torch.cat([piece[0] for piece in pieces], 1)
    leave = torch.cat([piece[1] for piece in pieces], 1)
    missed = enter >= leave
    return torch.where(missed, NEVER, enter), torch.where(missed, -NEVER, leave)


def _slab(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect with the slab between -1 and 1 of one coordinate."""
    d = torch.where(d.abs() < EPS, EPS, d)
    one, two = (-1 - o) / d, (1 - o) / d
    return torch.minimum(one, two), torch.maximum(one, two)


def _cube(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    near, far = _slab(o, d)
    return near.amax(-1), far.amin(-1)


def _sphere(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Solve |o + t d|^2 = 1."""
    a = (d * d).sum(-1).clamp_min(EPS)
    b, c = (o * d).sum(-1), (o * o).sum(-1) - 1
    disc = b * b - a * c
    root = disc.clamp_min(0).sqrt()
    miss = disc <= 0
    enter = torch.where(miss, NEVER, (-b - root) / a)
    return enter, torch.where(miss, -NEVER, (-b + root) / a)


def _cylinder(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    near, far = _sphere(o[..., :2], d[..., :2])
    low, high = _slab(o[..., 2], d[..., 2])
    return torch.maximum(near, low), torch.minimum(far, high)


def local_surface(
    solids: Solids, hits: Hits, points: Float[Tensor, "r 3"]
) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 3"]]:
    """Return hit points and outward normals in the frame of the unit shape."""
    to_local, center = solids.to_local[hits.solid], solids.centers[hits.solid]
    local = (to_local @ (points - center)[..., None])[..., 0]
    cubes, spheres, _ = solids.counts
    is_cube = (hits.solid < cubes)[:, None]
    is_sphere = ((hits.solid >= cubes) & (hits.solid < cubes + spheres))[:, None]
    axis = torch.nn.functional.one_hot(local.abs().argmax(-1), 3) * local.sign()
    cap = local[:, 2:].abs() > (local[:, :2] ** 2).sum(-1, keepdim=True)
    side = torch.cat([local[:, :2], torch.zeros_like(local[:, 2:])], -1)
    up = torch.cat([torch.zeros_like(local[:, :2]), local[:, 2:].sign()], -1)
    round_normal = torch.where(is_sphere, local, torch.where(cap, up, side))
    return local, torch.where(is_cube, axis, round_normal)


def world_normals(
    solids: Solids, hits: Hits, local_normals: Float[Tensor, "r 3"]
) -> Float[Tensor, "r 3"]:
    """Return unit normals that point out of the visible solid."""
    normals = (solids.to_local[hits.solid].mT @ local_normals[..., None])[..., 0]
    normals = torch.nn.functional.normalize(normals, dim=-1)
    return torch.where(hits.inner[:, None], -normals, normals)
