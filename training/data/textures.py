"""Procedural textures: colours of points, from noise alone."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "n 3"]
Colors = Float[Tensor, "n 3"]
Texture = Callable[[Points], Colors]


def value_noise(points: Points) -> Float[Tensor, " n"]:
    """Interpolate random lattice values into smooth noise in [0, 1] with features of size 1."""
    base = points.floor()
    t = points - base
    t = t * t * (3 - 2 * t)
    corner = base.long()
    total = torch.zeros_like(points[:, 0])
    for dx in (0, 1):
        for dy in (0, 1):
            for dz in (0, 1):
                offset = torch.tensor([dx, dy, dz])
                weight = torch.where(offset.bool(), t, 1 - t).prod(-1)
                total = total + weight * _hash(corner + offset)
    return total


def _hash(lattice: Tensor) -> Tensor:
    """Hash lattice points to numbers in [0, 1]."""
    x, y, z = lattice.unbind(-1)
    h = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791)
    h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
    h = ((h ^ (h >> 15)) * 668265263) & 0x7FFFFFFF
    return ((h ^ (h >> 14)) & 0xFFFFFF).double() / 0xFFFFFF


def fractal(points: Points, octaves: int = 5) -> Float[Tensor, " n"]:
    """Sum noise of several octaves, in [0, 1]."""
    total, weight = torch.zeros_like(points[:, 0]), 0.0
    for octave in range(octaves):
        gain = 0.55**octave
        total = total + gain * value_noise(points * 2.0**octave + 17.3 * octave)
        weight += gain
    return total / weight


def mix(a: tuple[float, float, float], b: tuple[float, float, float], t: Tensor) -> Colors:
    """Blend linearly from a (t = 0) to b (t = 1)."""
    first, second = torch.tensor(a).double(), torch.tensor(b).double()
    return first + (second - first) * t.clamp(0, 1)[:, None]


def wood(points: Points) -> Colors:
    """Return planks along x with grain and dark joints."""
    plank = (points[:, 1] / 0.42).floor()
    shift = torch.stack([plank * 7.7, plank * 3.1, plank * 0.0], -1)
    warp = fractal(points * torch.tensor([1.2, 5.0, 1.0]).double() + shift, 4)
    grain = 0.5 + 0.5 * torch.sin(38 * (points[:, 1] + 0.35 * warp) + 5 * plank)
    fine = fractal(points * torch.tensor([9.0, 90.0, 1.0]).double() + shift, 3)
    tone = 0.35 * grain + 0.5 * fine + 0.3 * warp
    color = mix((0.36, 0.20, 0.10), (0.78, 0.54, 0.32), tone)
    joint = ((points[:, 1] / 0.42 - plank) < 0.025).double()
    return color * (1 - 0.65 * joint)[:, None]


def bricks(u: Tensor, v: Tensor, points: Points) -> Colors:
    """Return a brick wall in the coordinates (u, v)."""
    row = (v / 0.16).floor()
    along = u / 0.42 + 0.5 * (row % 2)
    column = along.floor()
    fu, fv = along - column, v / 0.16 - row
    mortar = ((fu < 0.045) | (fv < 0.11)).double()
    shade = _hash(torch.stack([column, row, torch.zeros_like(row)], -1).long())
    rough = fractal(points * 14, 4)
    brick = mix((0.45, 0.20, 0.14), (0.78, 0.46, 0.33), 0.55 * shade + 0.45 * rough)
    grout = mix((0.58, 0.55, 0.50), (0.76, 0.73, 0.68), rough)
    return brick * (1 - mortar)[:, None] + grout * mortar[:, None]


def plaster(points: Points) -> Colors:
    """Return a painted wall with stains and fine grain."""
    stain, grain = fractal(points * 1.7, 5), fractal(points * 25, 3)
    return mix((0.30, 0.42, 0.47), (0.62, 0.74, 0.74), 0.75 * stain + 0.35 * grain - 0.05)


def checks(points: Points) -> Colors:
    """Return worn squares in two colours."""
    cell = (points / 0.15 + 0.001).floor().sum(-1) % 2
    wear = fractal(points * 9, 4)
    light, dark = (
        mix((0.86, 0.80, 0.66), (0.98, 0.95, 0.88), wear),
        mix((0.07, 0.16, 0.30), (0.16, 0.33, 0.50), wear),
    )
    return torch.where(cell[:, None] > 0.5, light, dark)


def marble(points: Points) -> Colors:
    """Return white stone with dark veins."""
    warp = fractal(points * 3.0, 5)
    vein = (torch.sin(9 * points[:, 0] + 6 * points[:, 2] + 9 * warp)).abs() ** 0.4
    return mix(
        (0.20, 0.24, 0.27), (0.95, 0.94, 0.90), vein * (0.75 + 0.35 * fractal(points * 20, 3))
    )


def stripes(points: Points) -> Colors:
    """Return rings of glaze around a pot."""
    band = torch.sin(34 * points[:, 2] + 2.2 * fractal(points * 4, 3))
    speck = fractal(points * 30, 3)
    warm = mix((0.80, 0.42, 0.10), (0.97, 0.74, 0.28), speck)
    cool = mix((0.05, 0.30, 0.30), (0.16, 0.52, 0.48), speck)
    return torch.where(band[:, None] > 0.1, warm, cool)


def rock(points: Points) -> Colors:
    """Return mottled stone, red to yellow."""
    tone = fractal(points * 5, 5)
    spots = (fractal(points * 16 + 40, 3) > 0.56).double()
    color = mix((0.45, 0.12, 0.12), (0.90, 0.52, 0.24), 1.4 * tone - 0.2)
    return color * (1 - 0.55 * spots)[:, None]


def moss(points: Points) -> Colors:
    """Return greens with fine grain."""
    return mix(
        (0.10, 0.22, 0.08),
        (0.62, 0.74, 0.30),
        0.6 * fractal(points * 6, 5) + 0.5 * fractal(points * 40, 2) - 0.05,
    )
