"""Random layouts: rooms, tables, open ground and plain backgrounds.

World: z up, most things within a radius of about 2 around the origin, the floor at z = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from training.data.procedural.builder import Builder, Layout
from training.data.procedural.mesh import boxes, rods, surface
from training.data.procedural.shapes import log_uniform, waves
from training.data.procedural.things import (
    building,
    composite,
    floating,
    furniture,
    plant,
    thin,
)

SceneKind = Literal["room", "table", "outdoor", "plain"]
KINDS: tuple[SceneKind, ...] = ("room", "table", "outdoor", "plain")
CHANCES = (0.38, 0.2, 0.3, 0.12)


@dataclass(frozen=True)
class World:
    """A scene, and where its cameras may be."""

    kind: SceneKind
    layout: Layout
    low: Float[np.ndarray, "3"]
    """Lower corner of the space of the cameras."""
    high: Float[np.ndarray, "3"]
    """Upper corner of the space of the cameras."""
    closed: bool = False
    """Whether a ceiling keeps the sun out, so that the main light must be inside."""


def random_world(
    seed: int, textures: int, noises: int, complexity: float = 1.0, kind: SceneKind | None = None
) -> World:
    """Draw a scene.

    Args:
        seed: Seed of the scene.
        textures: Number of textures in the bank.
        noises: Number of these that are noise; they come first.
        complexity: From 0 to 1; scales the numbers of things.
        kind: Kind of the scene; None draws one.
    """
    build = Builder(seed, textures, noises, complexity)
    drawn = KINDS[int(build.stage("kind").choice(len(KINDS), p=CHANCES))]
    kind = kind or drawn
    build.stage("surroundings")
    low, high, closed = _SURROUNDINGS[kind](build)
    _things(build, kind, np.minimum(high[:2], -low[:2]).clip(0.8, 2.6))
    return World(kind, build.layout(), low, high, closed)


Space = tuple[np.ndarray, np.ndarray, bool]


def _room(build: Builder) -> Space:
    """Add a floor, two to four walls with windows and doors, and often a ceiling."""
    rng = build.rng
    half, height = rng.uniform(1.8, 4.5, 2), float(rng.uniform(2.2, 3.6))
    _slab(build, [0, 0, -0.1], [half[0] + 0.2, half[1] + 0.2, 0.1], "ground")
    walls = rng.permutation(4)[: int(rng.choice([2, 3, 4, 4]))]
    paint = build.material("wall")
    for wall in walls:
        own = build.material("wall")
        _wall(build, half, height, int(wall), own if rng.random() < 0.3 else paint)
    closed = bool(rng.random() < 0.6)
    if closed:
        _slab(build, [0, 0, height + 0.1], [half[0] + 0.2, half[1] + 0.2, 0.1], "wall")
    if len(walls) < 4:
        _slab(build, [0, 0, -0.6], [25, 25, 0.3], "ground")
    low = np.array([*(0.25 - half), 0.3])
    return low, np.array([*(half - 0.25), height - 0.25]), closed and len(walls) > 2


def _wall(build: Builder, half: np.ndarray, height: float, side: int, paint: int) -> None:
    """Add one wall with up to three openings, their bars, a skirting board and posters."""
    rng = build.rng
    axis, sign = side % 2, 1 - 2 * (side // 2)
    along, long = 1 - axis, half[1 - axis] + 0.2
    count = int(rng.integers(0, 4))
    sill = 0.0 if count == 1 and rng.random() < 0.4 else rng.uniform(0.5, 1.1)
    head = min(height - 0.15, sill + rng.uniform(0.9, 2.0))
    edges = np.linspace(-long, long, count + 1)
    opening = 0.7 * long / max(count, 1) * rng.uniform(0.5, 1.1)
    middle = 0.5 * (edges[1:] + edges[:-1]) if count else np.zeros(0)
    starts = np.concatenate([[-long], middle + opening])
    ends = np.concatenate([middle - opening, [long]])
    spans = [(a, b, 0.0, height) for a, b in zip(starts, ends, strict=True)]
    for m in middle:
        spans += [(m - opening, m + opening, 0.0, sill), (m - opening, m + opening, head, height)]
    spans = [s for s in spans if s[3] - s[2] > 0.02]

    def placed(spans: list[tuple[float, float, float, float]], offset: float, thick: float) -> None:
        boxed = np.array(spans)
        centers, halves = np.zeros((len(boxed), 3)), np.zeros((len(boxed), 3))
        centers[:, along], halves[:, along] = boxed[:, :2].mean(1), np.diff(boxed[:, :2])[:, 0] / 2
        centers[:, 2], halves[:, 2] = boxed[:, 2:].mean(1), np.diff(boxed[:, 2:])[:, 0] / 2
        centers[:, axis], halves[:, axis] = sign * (half[axis] + offset), thick
        build.add(boxes(centers, halves), None, None, current)

    current = paint
    placed(spans, 0.1, 0.1)
    current = build.material("wall")
    if count and sill > 0 and rng.random() < 0.7:
        bars = int(rng.integers(2, 3 + round(5 * build.complexity)))
        x = (middle[:, None] + np.linspace(-opening, opening, bars)).ravel()
        placed([(a - 0.02, a + 0.02, sill, head) for a in x], 0.08, 0.02)
        z = 0.5 * (sill + head)
        placed([(m - opening, m + opening, z - 0.02, z + 0.02) for m in middle], 0.08, 0.02)
    if rng.random() < 0.5:
        placed([(a, b, 0.0, 0.1) for a, b in zip(starts, ends, strict=True)], -0.02, 0.02)
    for _ in range(build.count(0, 3)):
        current = build.material("poster")
        x, z = rng.uniform(-0.8, 0.8) * long, rng.uniform(1.2, max(1.3, height - 0.6))
        w, h = rng.uniform(0.15, 0.6, 2)
        placed([(x - w, x + w, z - h, z + h)], -0.02, 0.02)


def _slab(
    build: Builder, center: Sequence[float | int], half: Sequence[float | int], style: str
) -> None:
    mesh = boxes(np.array([center], float), np.array([half], float))
    build.add(mesh, None, None, build.material(style))


def _table(build: Builder) -> Space:
    """Add a table top, sometimes the floor below and walls behind."""
    rng = build.rng
    size = rng.uniform(1.2, 2.4, 2)
    _slab(build, [0, 0, -0.05], [*size, 0.05], "object")
    if rng.random() < 0.8:
        _slab(build, [0, 0, -1.8], [14, 14, 0.2], "ground")
    distance = rng.uniform(2.2, 6)
    if rng.random() < 0.8:
        _slab(build, [0, distance, 1], [14, 0.1, 4], "wall")
    if rng.random() < 0.5:
        _slab(build, [distance * rng.choice([-1, 1]), 0, 1], [0.1, 14, 4], "wall")
    return np.array([-4.0, -4.5, 0.25]), np.array([4.0, 1.5, 3.5]), False


def _outdoor(build: Builder) -> Space:
    """Add ground with hills, and buildings and trees at all distances."""
    rng = build.rng
    u = np.linspace(-1, 1, 25)
    x, y = np.meshgrid(u, u, indexing="ij")
    x, y = 40 * np.sign(x) * np.abs(x) ** 1.7, 40 * np.sign(y) * np.abs(y) ** 1.7
    away = np.sqrt(x * x + y * y)
    rough = rng.uniform(0, 0.12) * build.complexity
    hills = rng.uniform(0, 0.25) * np.maximum(away - 4, 0)
    grid = np.stack([x, y], -1)
    z = rough * waves(rng, grid, 5) + hills * waves(rng, grid / 25, 4)
    z -= rough
    ground = surface(np.stack([x, y, z], -1))
    build.add(ground, None, None, build.material("ground"), solid=False)
    build.stage("buildings")
    rng = build.rng
    for _ in range(build.count(0, 4)):
        angle, away_from = 2 * np.pi * rng.random(), log_uniform(rng, 4.0, 25.0)
        base = away_from * np.array([np.cos(angle), np.sin(angle), 0.0])
        building(build, base - [0, 0, 0.05 * away_from], min(3.0, 0.35 * away_from))
    build.stage("trees")
    rng = build.rng
    for _ in range(build.count(1, 5)):
        angle, away_from = 2 * np.pi * rng.random(), log_uniform(rng, 1.5, 18.0)
        base = away_from * np.array([np.cos(angle), np.sin(angle), 0.0])
        plant(build, base, min(2.5, log_uniform(rng, 0.5, 1.2) * away_from**0.5))
    return np.array([-5.0, -5.0, 0.3]), np.array([5.0, 5.0, 3.5]), False


def _plain(build: Builder) -> Space:
    """Add nothing but sometimes a small base: objects in front of a plain background."""
    if build.chance(0.5):
        _slab(build, [0, 0, -0.05], [2.2, 2.2, 0.05], "object")
    return np.array([-4.0, -4.0, -1.0]), np.array([4.0, 4.0, 3.5]), False


_SURROUNDINGS = {"room": _room, "table": _table, "outdoor": _outdoor, "plain": _plain}


def _spot(build: Builder, reach: np.ndarray) -> np.ndarray:
    return np.array([*(build.rng.uniform(-0.95, 0.95, 2) * reach), 0.0])


def _things(build: Builder, kind: SceneKind, reach: np.ndarray) -> None:
    """Add things of every sort, each in a stage of its own."""
    scale = 0.65 if kind in ("table", "plain") else 1.0
    reach = np.minimum(reach, 1.2) if scale < 1 else reach
    rng = build.stage("furniture")
    for _ in range(build.count(1, 6) if kind == "room" else build.count(0, 2)):
        furniture(build, _spot(build, reach), scale * log_uniform(rng, 0.25, 0.9))
    rng = build.stage("composites")
    for _ in range(build.count(1, 3)):
        composite(build, _spot(build, reach), scale * log_uniform(rng, 0.2, 0.6))
    rng = build.stage("floating")
    for _ in range(build.count(10, 30) if build.chance(0.5) else build.count(0, 10)):
        center = _spot(build, reach) + [0, 0, rng.uniform(0.1, 2.4) * max(scale, 0.6)]
        floating(build, center, scale * log_uniform(rng, 0.06, 0.4))
    rng = build.stage("thin")
    for _ in range(build.count(0, 4)):
        thin(build, _spot(build, reach), scale * log_uniform(rng, 0.4, 1.0))
    if build.chance(0.3):
        ends = rng.uniform(-1, 1, (2, build.count(3, 14), 3)) * [*reach, 1.2] + [0, 0, 1.2]
        axis = int(rng.integers(3))
        ends[1, :, [i for i in range(3) if i != axis]] = ends[
            0, :, [i for i in range(3) if i != axis]
        ]
        build.add(rods(ends[0], ends[1], log_uniform(rng, 0.008, 0.04), 5))
    rng = build.stage("plants")
    often = {"room": 1, "table": 1, "outdoor": 4, "plain": 1}[kind]
    for _ in range(build.count(0, often)):
        plant(build, _spot(build, reach), scale * log_uniform(rng, 0.25, 0.8))
