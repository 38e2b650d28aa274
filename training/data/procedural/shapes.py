"""Random single surfaces around the origin, within about [-size, size] in each axis."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from training.data.procedural.mesh import Mesh, boxes, cross, grid_faces, rods, surface

Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(low * (high / low) ** rng.random())


def rotation(rng: Rng, upright: bool = False) -> Float[np.ndarray, "3 3"]:
    """Draw a rotation, about the vertical or about any axis (Shoemake 1992)."""
    if upright:
        angle = 2 * np.pi * rng.random()
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    w, x, y, z = (q := rng.standard_normal(4)) / np.sqrt(q @ q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def waves(rng: Rng, points: Float[np.ndarray, "*g d"], count: int = 5) -> Float[np.ndarray, "*g"]:
    """Sum plane waves of falling amplitude into a smooth field of about [-1, 1]."""
    order = np.arange(1, count + 1)
    vectors = rng.uniform(-1, 1, (points.shape[-1], count)) * (1.5 + 2.0 * order)
    total = np.sin(points @ vectors + rng.uniform(0, 2 * np.pi, count)) / order
    return np.asarray(0.7 * total.sum(-1))


def box(half: Float[np.ndarray, "3"]) -> Mesh:
    """Make a box from its half extents."""
    return boxes(np.zeros((1, 3)), half[None])


def lathe(
    profile: Float[np.ndarray, "k 2"], sides: int, sharp: bool = False, sweep: float = 1.0
) -> Mesh:
    """Rotate a profile of (radius, height) about z.

    Args:
        profile: Points from the bottom to the top.
        sides: Number of steps around.
        sharp: Whether the profile's corners are edges.
        sweep: Fraction of the full circle.
    """
    angle = np.linspace(0, 2 * np.pi * sweep, sides + 1)
    ring = np.stack([np.cos(angle), np.sin(angle), np.ones_like(angle)], -1)
    if not sharp:
        points = ring * profile[:, None, [0, 0, 1]]
        return surface(points, sweep == 1.0)
    # Each segment has its own rows of vertices.
    count = len(profile) - 1
    rows = np.stack([profile[:-1], profile[1:]], 1)
    step = np.diff(profile, axis=0)
    lengths = np.maximum(np.sqrt((step * step).sum(1)), 1e-9)
    slope = (np.stack([step[:, 1], -step[:, 0]], 1) / lengths[:, None])[:, [0, 0, 1]]
    points = ring * rows[:, :, None, [0, 0, 1]]
    normals = np.broadcast_to((ring * slope[:, None])[:, None], points.shape)
    uv = np.empty((count, 2, sides + 1, 2))
    uv[..., 0] = angle * profile[:, 0].max()
    uv[..., 1] = np.stack([lengths.cumsum() - lengths, lengths.cumsum()], 1)[..., None]
    faces = grid_faces(2, sides + 1) + 2 * (sides + 1) * np.arange(count)[:, None, None]
    return Mesh(
        points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces.reshape(-1, 3)
    )


def cylinder(
    radius: float, half: float, top: float = 1.0, sides: int = 14, bottom: float = 1.0
) -> Mesh:
    """Make a closed cylinder, cone or prism; `top` and `bottom` scale the radius at the ends."""
    low, high = radius * bottom, radius * top
    profile = np.array([[0, -half], [low, -half], [high, half], [0, half]])
    mesh = lathe(profile, sides, sharp=True)
    return mesh.faceted() if sides < 8 else mesh


def superquadric(half: Float[np.ndarray, "3"], e1: float, e2: float, detail: int = 9) -> Mesh:
    """Make a superquadric (Barr 1981): ellipsoid at 1, boxy below, pinched above."""
    lift = np.linspace(-np.pi / 2, np.pi / 2, detail)[:, None]
    angle = np.linspace(0, 2 * np.pi, 2 * detail - 3)[None]

    def power(x: np.ndarray, e: float) -> np.ndarray:
        return np.asarray(np.sign(x) * np.abs(x) ** e)

    flat = power(np.cos(lift), e1)
    x, y = flat * power(np.cos(angle), e2), flat * power(np.sin(angle), e2)
    z = np.broadcast_to(power(np.sin(lift), e1), x.shape)
    return surface(np.stack([x, y, z], -1) * half, closed=True)


def tube(path: Float[np.ndarray, "k 3"], radius: float | np.ndarray, sides: int = 7) -> Mesh:
    """Sweep a circle along a path; `radius` may change along it."""
    tangent = np.gradient(path, axis=0)
    helper = np.array([0.31, 0.17, 0.93]) if np.abs(tangent[:, 2]).mean() < 1e-3 else np.eye(3)[1]
    x = cross(tangent, np.broadcast_to(helper, tangent.shape))
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    y = cross(tangent, x)
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-9)
    angle = np.linspace(0, 2 * np.pi, sides + 1)[:, None]
    ring = x[:, None] * np.cos(angle) + y[:, None] * np.sin(angle)
    wide = np.broadcast_to(radius, len(path))[:, None, None]
    return surface(path[:, None] + wide * ring, closed=True)


def _box(rng: Rng, size: float) -> Mesh:
    return box(size * rng.uniform(0.15, 1, 3))


def _ellipsoid(rng: Rng, size: float) -> Mesh:
    half = np.full(3, rng.uniform(0.4, 1)) if rng.random() < 0.5 else rng.uniform(0.25, 1, 3)
    return superquadric(size * half, 1.0, 1.0)


def _superquadric(rng: Rng, size: float) -> Mesh:
    e1, e2 = rng.uniform(0.15, 2.2, 2)
    return superquadric(size * rng.uniform(0.25, 1, 3), float(e1), float(e2))


def _prism(rng: Rng, size: float) -> Mesh:
    sides = int(rng.choice([3, 4, 5, 6, 8, 16, 16]))
    top = float(rng.choice([1.0, 1.0, 0.0, 0.5, 1.4]))
    return cylinder(size * rng.uniform(0.2, 0.7), size * rng.uniform(0.1, 1), top, sides)


def _torus(rng: Rng, size: float) -> Mesh:
    sweep = 1.0 if rng.random() < 0.6 else rng.uniform(0.3, 0.8)
    angle = np.linspace(0, 2 * np.pi * sweep, 17)
    thin = size * log_uniform(rng, 0.04, 0.35)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
    return tube((size - thin) * ring, thin)


def _vessel(rng: Rng, size: float) -> Mesh:
    """Make a vase, bowl, bottle or lamp shade, open at the top."""
    t = np.linspace(0, 1, 9)
    wide = size * rng.uniform(0.25, 0.6)
    profile = wide * (1 + 0.5 * waves(rng, t[:, None] * 1.3, 3))
    profile = np.maximum(profile, 0.15 * wide)
    height = size * rng.uniform(0.4, 1.0)
    points = np.stack([profile, height * (2 * t - 1)], -1)
    points = np.concatenate([[[0, -height]], points])
    return lathe(points, 14, sweep=1.0 if rng.random() < 0.8 else rng.uniform(0.4, 0.8))


def _shell(rng: Rng, size: float) -> Mesh:
    """Make a thick pipe or ring: a rectangle rotated about the axis."""
    outer, height = size * rng.uniform(0.3, 0.9), size * rng.uniform(0.1, 1.0)
    inner = outer * rng.uniform(0.5, 0.92)
    profile = [[inner, -height], [outer, -height], [outer, height], [inner, height]]
    sides = int(rng.choice([4, 6, 16, 16]))
    mesh = lathe(np.array([*profile, profile[0]]), sides, sharp=True)
    return mesh.faceted() if sides < 8 else mesh


def _frame(rng: Rng, size: float) -> Mesh:
    """Make a box with a rectangular hole through it."""
    x, z = size * rng.uniform(0.4, 1, 2)
    depth, bar = size * rng.uniform(0.05, 0.7), float(min(x, z) * rng.uniform(0.08, 0.45))
    centers = [[x - bar, 0, 0], [bar - x, 0, 0], [0, 0, z - bar], [0, 0, bar - z]]
    halves = [[bar, depth, z]] * 2 + [[x - 2 * bar, depth, bar]] * 2
    return boxes(np.array(centers), np.array(halves))


def _lump(rng: Rng, size: float) -> Mesh:
    ball = superquadric(np.ones(3), 1.0, 1.0, 10)
    points = ball.vertices.reshape(10, 17, 3)
    radius = 0.7 * size * (1 + rng.uniform(0.1, 0.45) * waves(rng, points * rng.uniform(0.4, 1.2)))
    stretched = points * np.maximum(radius, 0.1 * size)[..., None] * rng.uniform(0.5, 1, 3)
    mesh = surface(stretched, closed=True)
    return mesh.faceted() if rng.random() < 0.3 else mesh


def _sheet(rng: Rng, size: float) -> Mesh:
    u = np.linspace(-1, 1, 10)
    x, y = np.meshgrid(size * rng.uniform(0.4, 1) * u, size * u, indexing="ij")
    grid = np.stack([x, y], -1) / size
    bend = size * rng.uniform(0.05, 0.35) * waves(rng, grid * rng.uniform(0.2, 0.8), 4)
    return surface(np.stack([x, y, bend], -1))


def _hills(rng: Rng, size: float) -> Mesh:
    u = np.linspace(-1, 1, 12)
    x, y = np.meshgrid(u, u, indexing="ij")
    rim = ((1 - x * x) * (1 - y * y)) ** 0.7
    height = rng.uniform(0.3, 0.8) * rim * (0.6 + 0.5 * waves(rng, np.stack([x, y], -1))) - 0.02
    return surface(size * np.stack([x, y, height], -1))


def _wire(rng: Rng, size: float) -> Mesh:
    """Make a cable or a handle: a bent thin tube."""
    t = np.linspace(0, 1, 14)[:, None]
    swing = np.stack([waves(rng, t, 3) for _ in range(3)], -1) * rng.uniform(0.2, 0.5)
    path = size * (swing + (2 * t - 1) * rng.uniform(-0.8, 0.8, 3))
    return tube(path, size * log_uniform(rng, 0.012, 0.12), 6)


def wireframe(rng: Rng, size: float) -> Mesh:
    """Make the twelve edges of a box as rods, some with a cross in each side."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    pairs = [(a, b) for a in range(8) for b in range(a) if (a ^ b) in (1, 2, 4)]
    if rng.random() < 0.4:
        pairs += [(a, b) for a in range(8) for b in range(a) if (a ^ b) in (3, 5, 6)]
    points = corners * size * rng.uniform(0.3, 1, 3)
    start, end = np.array(pairs).T
    return rods(points[start], points[end], size * log_uniform(rng, 0.012, 0.06))


SHAPES: dict[str, Callable[[Rng, float], Mesh]] = {
    "box": _box,
    "ellipsoid": _ellipsoid,
    "superquadric": _superquadric,
    "prism": _prism,
    "torus": _torus,
    "vessel": _vessel,
    "shell": _shell,
    "frame": _frame,
    "lump": _lump,
    "sheet": _sheet,
    "hills": _hills,
    "wire": _wire,
    "wireframe": wireframe,
}
WEIGHTS = np.array([5, 2.5, 2.5, 3, 1.2, 1.5, 1.2, 1.2, 1.5, 1.2, 0.5, 0.7, 0.7])
_CHANCE = np.cumsum(WEIGHTS / WEIGHTS.sum())


def random_shape(rng: Rng, size: float) -> Mesh:
    """Draw one of SHAPES."""
    name = list(SHAPES)[min(int(np.searchsorted(_CHANCE, rng.random())), len(SHAPES) - 1)]
    return SHAPES[name](rng, size)
