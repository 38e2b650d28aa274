"""Triangle soups: height fields, surfaces of revolution, lumps and bent sheets."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.tensors import TensorStruct
from training.data.procedural.solids import EPS, NEVER

# Points along each side of a surface's grid; every ray is tested against all triangles.
GRID = 10


@dataclass(frozen=True)
class Soup(TensorStruct):
    """t triangles with smooth normals, visible from both sides."""

    corners: Float[Tensor, "t 3 3"]
    """Corners of the triangles, relative to the centre, so that float32 is precise enough."""
    normals: Float[Tensor, "t 3 3"]
    """Unit normals at the corners."""
    center: Float[Tensor, "3"]
    """Centre of the bounding sphere."""
    radius: Float[Tensor, ""]
    """Radius of the bounding sphere."""

    def hit(
        self, origins: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
    ) -> tuple[Float[Tensor, "r"], Int[Tensor, "r"]]:
        """Return the ray parameter of the first triangle in front (NEVER if none) and its index."""
        local = origins - self.center
        along = (local * dirs).sum(-1)
        gap = (local.square().sum(-1) - self.radius**2) * dirs.square().sum(-1)
        near = (along.square() > gap).nonzero()[:, 0]
        depth = torch.full_like(along, NEVER)
        index = torch.zeros(len(along), dtype=torch.long, device=along.device)
        if len(near):
            depth[near], index[near] = self._first(local[near], dirs[near])
        return depth, index

    def _first(
        self, local: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
    ) -> tuple[Float[Tensor, "r"], Int[Tensor, "r"]]:
        """Find the first triangle whose three edges a ray passes on the same side.

        This is Plücker's test: one matrix product serves all edges.
        """
        p, q = self.corners, self.corners.roll(-1, 1)
        edges = torch.cat([torch.linalg.cross(p, q), q - p], -1).flatten(0, 1)
        rays = torch.cat([dirs, torch.linalg.cross(local, dirs)], -1)
        sides = (rays @ edges.T).unflatten(1, (-1, 3))
        inside = (sides > 0).all(-1) | (sides < 0).all(-1)
        flat = torch.linalg.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        steep = dirs @ flat.T
        steep = torch.where(steep.abs() < EPS, EPS, steep)
        reach = ((flat * p[:, 0]).sum(-1) - local @ flat.T) / steep
        first = torch.where(inside & (reach > 1e-4), reach, NEVER).min(1)
        return first.values, first.indices

    def normal_at(
        self, index: Int[Tensor, "r"], points: Float[Tensor, "r 3"], dirs: Float[Tensor, "r 3"]
    ) -> Float[Tensor, "r 3"]:
        """Interpolate corner normals by barycentric coordinates, facing the ray's origin."""
        corners = self.corners[index]
        local = points - self.center
        areas = torch.linalg.cross(
            corners.roll(-1, 1) - local[:, None], corners.roll(-2, 1) - local[:, None]
        ).norm(dim=-1)
        weights = areas / areas.sum(-1, keepdim=True).clamp_min(EPS)
        normal = (self.normals[index] * weights[..., None]).sum(1)
        normal = torch.nn.functional.normalize(normal, dim=-1)
        away = (normal * dirs).sum(-1, keepdim=True) > 0
        return torch.where(away, -normal, normal)


def random_soup(generator: torch.Generator, size: float, base: tuple[float, float, float]) -> Soup:
    """Draw a height field, a surface of revolution, a lump or a bent sheet.

    Args:
        generator: Source of all random numbers.
        size: Approximate half extent (world units).
        base: Point that the surface stands on.
    """
    kind = int(torch.randint(4, (), generator=generator))
    fraction = torch.linspace(0, 1, GRID)
    u, v = torch.meshgrid(fraction, fraction, indexing="ij")
    if kind == 0:
        grid = _field(generator, u, v)
    elif kind == 1:
        grid = _revolution(generator, u, v)
    elif kind == 2:
        grid = _lump(generator, u, v)
    else:
        grid = _sheet(generator, u, v)
    angle = 2 * math.pi * float(torch.rand((), generator=generator))
    c, s = math.cos(angle), math.sin(angle)
    grid = size * (grid @ torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]))
    return _soup_of(grid + torch.tensor(base), torch.tensor(base))


def _waves(
    generator: torch.Generator, u: Float[Tensor, "g g"], v: Float[Tensor, "g g"], count: int = 4
) -> Float[Tensor, "g g"]:
    """Sum random plane waves into a smooth field with an amplitude of about 1."""
    total = torch.zeros_like(u)
    for i in range(count):
        a, b, phase = (2 * torch.rand(3, generator=generator) - 1).tolist()
        angle = 2 * math.pi * (a * u + b * v) * (0.6 + 0.5 * i)
        total = total + torch.sin(angle + 6 * phase) / (1 + i)
    return total


def _field(generator: torch.Generator, u: Tensor, v: Tensor) -> Float[Tensor, "g g 3"]:
    """Make hills that are lowest at the rim, so that they rise from the floor."""
    rim = (u * (1 - u) * v * (1 - v) * 16) ** 0.7
    high = 0.25 + 0.4 * float(torch.rand((), generator=generator))
    z = high * rim * (0.6 + 0.5 * _waves(generator, u, v)) - 0.02
    return torch.stack([2 * u - 1, 2 * v - 1, z], -1)


def _revolution(generator: torch.Generator, u: Tensor, v: Tensor) -> Float[Tensor, "g g 3"]:
    """Make a vase, bowl or bottle: a random profile rotated about the vertical."""
    wide = 0.25 + 0.3 * float(torch.rand((), generator=generator))
    profile = wide * (1 + 0.45 * _waves(generator, u, torch.zeros_like(v)))
    high = 0.6 + 0.9 * float(torch.rand((), generator=generator))
    angle = 2 * math.pi * v
    return torch.stack([profile * angle.cos(), profile * angle.sin(), high * u], -1)


def _lump(generator: torch.Generator, u: Tensor, v: Tensor) -> Float[Tensor, "g g 3"]:
    """Make a stone or a fruit: a sphere whose radius varies with direction."""
    lift, angle = math.pi * (u - 0.5), 2 * math.pi * v
    ball = torch.stack([lift.cos() * angle.cos(), lift.cos() * angle.sin(), lift.sin()], -1)
    x, y, z = (0.5 + 0.5 * ball).unbind(-1)
    radius = 0.45 * (1 + 0.25 * _waves(generator, x, y) + 0.2 * _waves(generator, y, z))
    grid = radius[..., None] * ball
    return grid - torch.tensor([0.0, 0.0, float(grid[..., 2].min())])


def _sheet(generator: torch.Generator, u: Tensor, v: Tensor) -> Float[Tensor, "g g 3"]:
    """Make paper, cloth or a leaf: upright, leaning and bent."""
    lean = 0.8 * float(torch.rand((), generator=generator))
    bend = 0.2 * _waves(generator, u, v)
    return torch.stack([2 * u - 1, lean * v + bend, 1.2 * v], -1) * 0.6


def _soup_of(grid: Float[Tensor, "g g 3"], center: Float[Tensor, "3"]) -> Soup:
    local = grid - center
    rows, columns = torch.gradient(local, dim=(0, 1))
    normals = torch.nn.functional.normalize(torch.linalg.cross(rows, columns), dim=-1)
    pieces = []
    for values in (local, normals):
        a, b = values[:-1, :-1], values[1:, :-1]
        c, d = values[1:, 1:], values[:-1, 1:]
        triangles = torch.cat([torch.stack([a, b, c], 2), torch.stack([a, c, d], 2)])
        pieces.append(triangles.flatten(0, 1))
    return Soup(pieces[0], pieces[1], center, local.norm(dim=-1).max() * 1.001)
