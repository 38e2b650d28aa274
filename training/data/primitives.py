"""Ray intersections of solids in closed form, world frame, float64.

Each solid has a `texture`, which colours points, and `hit`, which returns the ray parameter of the
first hit (FAR if there is none) and the outward normal there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.textures import Texture

FAR = 1e9
EPS = 1e-6


@dataclass(frozen=True)
class Sphere:
    """A sphere."""

    center: tuple[float, float, float]
    radius: float
    texture: Texture

    def hit(self, origins: Tensor, dirs: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the quadratic equation of the ray."""
        offset = origins - torch.tensor(self.center).double()
        a, b = (dirs * dirs).sum(-1), (offset * dirs).sum(-1)
        disc = b * b - a * ((offset * offset).sum(-1) - self.radius**2)
        t = (-b - disc.clamp_min(0).sqrt()) / a
        t = torch.where((disc > 0) & (t > EPS), t, FAR)
        return t, (offset + t.clamp_max(1e6)[:, None] * dirs) / self.radius


@dataclass(frozen=True)
class Box:
    """A box rotated about the vertical."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    rotation_deg: float
    texture: Texture

    def hit(self, origins: Tensor, dirs: Tensor) -> tuple[Tensor, Tensor]:
        """Intersect the slabs in the frame of the box."""
        c, s = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        local = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]]).double()
        o = (origins - torch.tensor(self.center).double()) @ local.T
        d = dirs @ local.T
        d = torch.where(d.abs() < 1e-12, 1e-12, d)
        half = torch.tensor(self.size).double() / 2
        one, two = (-half - o) / d, (half - o) / d
        near, axis = torch.minimum(one, two).max(-1)
        far = torch.maximum(one, two).min(-1).values
        t = torch.where((near < far) & (near > EPS), near, FAR)
        normal = torch.nn.functional.one_hot(axis, 3).double() * -d.sign()
        return t, normal @ local


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder with a top; `base` is the centre of its lower end."""

    base: tuple[float, float, float]
    radius: float
    height: float
    texture: Texture

    def hit(self, origins: Tensor, dirs: Tensor) -> tuple[Tensor, Tensor]:
        """Intersect the wall and the top; the nearer one counts."""
        o = origins - torch.tensor(self.base).double()
        a = (dirs[:, :2] ** 2).sum(-1).clamp_min(1e-12)
        b = (o[:, :2] * dirs[:, :2]).sum(-1)
        disc = b * b - a * ((o[:, :2] ** 2).sum(-1) - self.radius**2)
        wall = (-b - disc.clamp_min(0).sqrt()) / a
        z = o[:, 2] + wall * dirs[:, 2]
        wall = torch.where((disc > 0) & (wall > EPS) & (z > 0) & (z < self.height), wall, FAR)
        down = torch.where(dirs[:, 2].abs() < 1e-12, -1e-12, dirs[:, 2])
        top = (self.height - o[:, 2]) / down
        point = o[:, :2] + top[:, None] * dirs[:, :2]
        top = torch.where((top > EPS) & ((point**2).sum(-1) < self.radius**2), top, FAR)
        t = torch.minimum(wall, top)
        side = o + t.clamp_max(1e6)[:, None] * dirs
        side = torch.stack([side[:, 0], side[:, 1], torch.zeros_like(t)], -1) / self.radius
        up = torch.tensor([0.0, 0.0, 1.0]).double().expand_as(side)
        return t, torch.where((top < wall)[:, None], up, side)


Solid = Sphere | Box | Cylinder
