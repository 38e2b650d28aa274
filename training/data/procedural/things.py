"""Composite things: furniture, stacked primitives, thin structures, plants and buildings."""

import numpy as np
from jaxtyping import Float

from training.data.procedural.builder import Builder
from training.data.procedural.mesh import Mesh, boxes, frames_along, rods
from training.data.procedural.shapes import (
    cylinder,
    log_uniform,
    random_shape,
    rotation,
    tube,
    waves,
)

Point = Float[np.ndarray, "3"]


def composite(build: Builder, base: Point, size: float) -> None:
    """Add a parent and children attached to its surface, in up to three materials."""
    rng = build.rng
    palette = [build.material() for _ in range(3)]
    parent = random_shape(rng, size)
    lift = base + [0, 0, -parent.vertices[:, 2].min()]
    parent = build.add(parent, lift, rotation(rng, upright=True), palette[0])
    for _ in range(build.count(3, 7)):
        child = random_shape(rng, size * rng.uniform(0.2, 0.7))
        anchor = parent.vertices[rng.integers(len(parent.vertices))]
        placed = build.add(child, anchor, rotation(rng), palette[int(rng.integers(3))])
        if rng.random() < 0.3:
            parent = placed


def floating(build: Builder, center: Point, size: float) -> None:
    """Add one object in the air, in any orientation."""
    build.add(random_shape(build.rng, size), center, rotation(build.rng))


def furniture(build: Builder, base: Point, size: float) -> None:
    """Add a table, a chair, a shelf, a cabinet, a lamp or a ladder; `size` is its half height."""
    rng = build.rng
    rotmat = rotation(rng, upright=True)
    for mesh in _FURNITURE[int(rng.integers(len(_FURNITURE)))](build, size):
        build.add(mesh, base, rotmat)


def _table(build: Builder, s: float) -> list[Mesh]:
    rng = build.rng
    x, y = s * rng.uniform(0.7, 1.8), s * rng.uniform(0.5, 1.0)
    thick, leg = s * rng.uniform(0.03, 0.1), s * rng.uniform(0.03, 0.09)
    top = [[0, 0, 2 * s - thick]], [[x, y, thick]]
    signs = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    ends = np.concatenate([signs * [x - leg, y - leg], np.zeros((4, 1))], 1)
    middle = ends + [0, 0, s - thick]
    legs = (
        boxes(middle, np.tile([leg, leg, s - thick], (4, 1)))
        if rng.random() < 0.6
        else rods(ends * [1, 1, 0], 2 * middle * [0, 0, 1] + ends * [0.9, 0.9, 0], leg, 7)
    )
    return [boxes(np.array(top[0]), np.array(top[1])), legs]


def _chair(build: Builder, s: float) -> list[Mesh]:
    rng = build.rng
    wide, seat, leg = 0.5 * s, s * rng.uniform(0.75, 1.0), s * rng.uniform(0.02, 0.06)
    corner = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * (wide - leg)
    low = np.concatenate([corner, np.zeros((4, 1))], 1)
    high = low + [0, 0, seat]
    high[[1, 3], 2] = 2 * s
    slats = int(rng.integers(1, 6))
    z = np.linspace(seat + 0.3 * s, 1.9 * s, slats)
    half = 0.3 * s / slats
    back = np.stack([np.zeros(slats), np.full(slats, wide - leg), z], 1)
    return [
        boxes(np.array([[0, 0, seat]]), np.array([[wide, wide, 0.04 * s]])),
        boxes(back, np.tile([wide, 0.5 * leg, half], (slats, 1))),
        rods(low, high, leg, 5),
    ]


def _shelf(build: Builder, s: float) -> list[Mesh]:
    rng = build.rng
    x, y, board = s * rng.uniform(0.4, 1.0), s * rng.uniform(0.15, 0.35), 0.025 * s
    levels = int(rng.integers(3, 6))
    z = np.linspace(board, 2 * s - board, levels)
    centers = np.concatenate(
        [np.stack([0 * z, 0 * z, z], 1), [[-x, 0, s], [x, 0, s]]],
    )
    halves = np.concatenate([np.tile([x, y, board], (levels, 1)), [[board, y, s]] * 2])
    meshes = [boxes(centers, halves)]
    if rng.random() < 0.5:
        meshes.append(boxes(np.array([[0, y, s]]), np.array([[x, board, s]])))
    gap = 2 * s / (levels - 1)
    for _ in range(3):
        count = max(1, build.count(2, 8))
        tall = gap * rng.uniform(0.2, 0.42, count)
        bottom = z[rng.integers(0, levels - 1, count)] + board
        books = np.stack([rng.uniform(-0.9, 0.9, count) * x, 0 * tall, bottom + tall], 1)
        wide = s * rng.uniform(0.02, 0.1, count)
        meshes.append(boxes(books, np.stack([wide, 0.8 * y + 0 * tall, tall], 1)))
    return meshes


def _cabinet(build: Builder, s: float) -> list[Mesh]:
    rng = build.rng
    x, y = s * rng.uniform(0.5, 1.4), s * rng.uniform(0.3, 0.7)
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    gx, gz = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    dx, dz = x / columns, s / rows
    doors = np.stack([(2 * gx + 1) * dx - x, 0 * gx - y, (2 * gz + 1) * dz], -1).reshape(-1, 3)
    knobs = doors + [0.7 * dx, -0.05 * s, 0]
    return [
        boxes(np.array([[0, 0, s]]), np.array([[x, y, s]])),
        boxes(doors, np.tile([0.92 * dx, 0.03 * s, 0.92 * dz], (len(doors), 1))),
        boxes(knobs, np.tile([0.02 * s, 0.03 * s, 0.08 * s], (len(doors), 1))),
    ]


def _lamp(build: Builder, s: float) -> list[Mesh]:
    rng = build.rng
    wide = s * rng.uniform(0.2, 0.45)
    up = np.array([0, 0, 1.0])
    return [
        cylinder(0.8 * wide, 0.04 * s).moved(0.04 * s * up),
        rods(np.zeros((1, 3)), (1.8 * s * up)[None], s * rng.uniform(0.012, 0.04)),
        cylinder(wide, 0.25 * s, rng.uniform(0.4, 1.0)).moved(1.8 * s * up),
    ]


def _ladder(build: Builder, s: float) -> list[Mesh]:
    rng = build.rng
    wide, lean = s * rng.uniform(0.2, 0.4), s * rng.uniform(0.0, 0.7)
    rungs = int(rng.integers(4, 10))
    t = np.linspace(0.05, 0.95, rungs)[:, None]
    foot, head = np.array([wide, 0, 0]), np.array([wide, lean, 2 * s])
    mirror = np.array([-1, 1, 1])
    starts = np.concatenate([[foot, foot * mirror], foot + t * (head - foot)])
    ends = np.concatenate([[head, head * mirror], (foot + t * (head - foot)) * mirror])
    return [rods(starts, ends, s * rng.uniform(0.015, 0.04))]


_FURNITURE = (_table, _table, _chair, _chair, _shelf, _cabinet, _lamp, _ladder)


def thin(build: Builder, base: Point, size: float) -> None:
    """Add a fence, a lattice, loose rods, a slab or a hanging cable."""
    rng, kind = build.rng, int(build.rng.integers(5))
    rotmat = rotation(rng, upright=True)
    if kind == 0:
        build.add(_fence(build, size), base, rotmat)
    elif kind == 1:
        count = build.count(2, 8)
        ends = rng.uniform(-size, size, (2, count, 3)) + [0, 0, size]
        build.add(rods(ends[0], ends[1], size * log_uniform(rng, 0.01, 0.05)), base)
    elif kind == 2:
        half = size * np.array([rng.uniform(0.5, 1.5), log_uniform(rng, 0.01, 0.05), 1])
        build.add(boxes(half[None] * [[0, 0, 1]], half[None]), base, rotmat)
    elif kind == 3:
        t = np.linspace(-1, 1, 16)
        sag = size * (1.2 + rng.uniform(0.2, 0.8) * t**2)
        path = np.stack([2 * size * t, 0 * t, sag], 1)
        build.add(tube(path, size * log_uniform(rng, 0.008, 0.03), 5), base, rotmat, solid=False)
    else:
        height = size * rng.uniform(0.8, 2.2)
        pole = rods(np.zeros((1, 3)), np.array([[0, 0, height]]), size * rng.uniform(0.015, 0.06))
        build.add(pole, base)


def _fence(build: Builder, size: float) -> Mesh:
    rng = build.rng
    count, x = max(4, build.count(6, 18)), np.zeros(3)
    x = np.linspace(-size, size, count) * rng.uniform(0.8, 2.0)
    thick, high = size * log_uniform(rng, 0.01, 0.05), size * rng.uniform(0.5, 1.2)
    feet = np.stack([x, 0 * x, 0 * x], 1)
    rails = rng.uniform(0.1, 1.0, int(rng.integers(1, 4)))[:, None] * [0, 0, high]
    starts = np.concatenate([feet, feet[:1] + rails])
    ends = np.concatenate([feet + [0, 0, high], feet[-1:] + rails])
    return rods(starts, ends, thick, 4)


def plant(build: Builder, base: Point, size: float) -> None:
    """Add a tree, a bush or a tuft of grass made of small cards."""
    rng, kind = build.rng, build.rng.random()
    if kind < 0.25:
        count = build.count(40, 160)
        foot = base + rng.normal(0, 0.35 * size, (count, 3)) * [1, 1, 0]
        tip = foot + size * rng.normal(0, [0.15, 0.15, 0.1], (count, 3)) + [0, 0, 0.6 * size]
        _blades(build, foot, tip, 0.03 * size)
        return
    crown = np.array([0, 0, 0.6 * size])
    if kind > 0.5:
        trunk = size * rng.uniform(0.8, 1.6)
        t = np.linspace(0, 1, 6)[:, None]
        bend = 0.12 * size * np.stack([waves(rng, t, 2), waves(rng, t, 2), 0 * t[:, 0]], 1)
        path = t * [0, 0, trunk] + t * bend
        width = size * rng.uniform(0.05, 0.12) * (1 - 0.6 * t[:, 0])
        bark = build.material("ground")
        build.add(tube(path, width, 6), base, None, bark)
        count = int(rng.integers(3, 7))
        tips = path[-1] + size * rng.uniform(-0.7, 0.7, (count, 3)) * [1, 1, 0.4] + crown * 0.6
        starts = path[rng.integers(3, 6, count)]
        build.add(rods(starts, tips, 0.025 * size, 4), base, None, bark, solid=False)
        crown = crown * 0.5 + path[-1]
    _leaves(build, base + crown, size)


def _leaves(build: Builder, center: Point, size: float) -> None:
    rng = build.rng
    for _ in range(int(rng.integers(2, 5))):
        count = build.count(60, 200)
        middle = center + size * rng.normal(0, [0.3, 0.3, 0.15], 3)
        inside = rng.normal(0, 1, (count, 3))
        inside /= np.linalg.norm(inside, axis=1, keepdims=True)
        inside *= rng.uniform(0.5, 1, (count, 1)) ** 0.5
        centers = middle + inside * size * rng.uniform(0.3, 0.6, 3)
        half = size * log_uniform(rng, 0.025, 0.08)
        frames = frames_along(inside + rng.normal(0, 0.6, (count, 3)))
        card = _card(half * rng.uniform(0.4, 1.0), half)
        build.add(card.copied(centers, frames), None, None, build.material("leaf"), solid=False)
        low, high = centers.min(0), centers.max(0)
        build.keep_out(low, high)


def _card(x: float, y: float) -> Mesh:
    """Make a leaf: two triangles in the plane z = 0."""
    points = np.array([[-x, 0, 0], [0, -y, 0], [x, 0, 0], [0, y, 0]])
    normals = np.array([[-0.5, 0, 0.87], [0, 0, 1], [0.5, 0, 0.87], [0, 0, 1]])
    return Mesh(points, normals, points[:, :2], np.array([[0, 1, 2], [0, 2, 3]]))


def _blades(build: Builder, foot: np.ndarray, tip: np.ndarray, wide: float) -> None:
    """Add triangles from the feet to the tips."""
    side = frames_along(tip - foot)[..., 0] * wide
    points = np.stack([foot - side, foot + side, tip], 1)
    faces = np.arange(3 * len(foot)).reshape(-1, 3)
    normals = np.broadcast_to([0.0, 0.5, 0.87], points.shape).reshape(-1, 3)
    uv = points[..., [0, 2]].reshape(-1, 2)
    mesh = Mesh(points.reshape(-1, 3), normals, uv, faces)
    build.add(mesh, None, None, build.material("leaf"), solid=False)


def building(build: Builder, base: Point, size: float) -> None:
    """Add a building whose facades have windows with reveals, sills, a door and a roof."""
    rng = build.rng
    half = size * rng.uniform(0.5, 1.4, 3) * [1, 1, 0.9]
    rotmat = rotation(rng, upright=True)
    wall, trim, glass = build.material("wall"), build.material("wall"), build.material()
    build.add(boxes(np.array([[0, 0, half[2]]]), half[None] * 0.97), base, rotmat, glass)
    for axis in (0, 1):
        for side in (-1, 1):
            _facade(build, base, rotmat, half, (axis, side), (wall, trim))
    kind = rng.random()
    top = base + [0, 0, 2 * half[2]]
    if kind < 0.6:
        roof = cylinder(1.5 * max(half[:2]), 0.3 * size, 0.0, 4)
        build.add(roof.moved(top + [0, 0, 0.3 * size], rotmat @ _EIGHTH))
    else:
        slab = half * [1.06, 1.06, 0] + [0, 0, 0.05 * size]
        build.add(boxes(np.zeros((1, 3)), slab[None]), top, rotmat, trim)


_EIGHTH = np.array([[0.5**0.5, -(0.5**0.5), 0], [0.5**0.5, 0.5**0.5, 0], [0, 0, 1]])


def _facade(
    build: Builder,
    base: Point,
    rotmat: np.ndarray,
    half: Point,
    face: tuple[int, int],
    materials: tuple[int, int],
) -> None:
    """Add piers and bands that leave a grid of windows, and the windows' sills."""
    rng, (axis, side) = build.rng, face
    along = 1 - axis
    wide, tall = half[along], 2 * half[2]
    columns, rows = max(1, build.count(1, 5)), max(1, build.count(1, 3))
    opening = rng.uniform(0.35, 0.65)
    dx, dz, deep = wide / columns, tall / rows, 0.04 * half.mean() + 0.02
    spots, reach = np.zeros((2 * columns + 1 + rows + 1, 3)), np.zeros((2 * columns + rows + 2, 3))
    piers = np.linspace(-wide, wide, columns + 1)
    bands = np.linspace(0, tall, rows + 1)
    spots[: columns + 1, along], spots[: columns + 1, 2] = piers, tall / 2
    reach[: columns + 1, along], reach[: columns + 1, 2] = dx * (1 - opening), tall / 2
    last = columns + 1 + rows + 1
    spots[columns + 1 : last, 2], reach[columns + 1 : last, along] = bands, wide
    reach[columns + 1 : last, 2] = 0.5 * dz * (1 - opening)
    spots[:, axis], reach[:, axis] = side * half[axis], deep
    build.add(boxes(spots[:last], reach[:last]), base, rotmat, materials[0])
    gx, gz = np.meshgrid(piers[:-1] + dx, bands[:-1] + 0.5 * dz * (1 - opening), indexing="ij")
    sills = np.zeros((gx.size, 3))
    sills[:, along], sills[:, 2], sills[:, axis] = gx.ravel(), gz.ravel(), side * half[axis]
    size = np.full(3, 0.02 * half.mean() + 0.01)
    size[along], size[axis] = dx * opening * 1.1, 2 * deep
    bars = np.array(size)
    bars[along], bars[2], bars[axis] = 0.03 * dx, 0.5 * dz * opening, 0.6 * deep
    build.add(boxes(sills, np.tile(size, (len(sills), 1))), base, rotmat, materials[1])
    if rng.random() < 0.6:
        middle = sills + [0, 0, 0.5 * dz * opening]
        build.add(boxes(middle, np.tile(bars, (len(sills), 1))), base, rotmat, materials[1])
