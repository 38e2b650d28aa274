"""Triangle meshes of the procedural scenes: grids, boxes, rods and copies, at their final size."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

EPS = 1e-9


@dataclass(frozen=True)
class Mesh:
    """Triangles with smooth normals; texture coordinates are in world units."""

    vertices: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    """Unit normals."""
    uv: Float[np.ndarray, "n 2"]
    faces: Int[np.ndarray, "m 3"]
    copies: int = 1
    """Number of equal parts, each of which has its own bounding box."""

    def moved(
        self, center: Float[np.ndarray, "3"], rotmat: Float[np.ndarray, "3 3"] | None = None
    ) -> "Mesh":
        """Rotate about the origin, then translate."""
        if rotmat is None:
            return Mesh(self.vertices + center, self.normals, self.uv, self.faces, self.copies)
        vertices = self.vertices @ rotmat.T + center
        return Mesh(vertices, self.normals @ rotmat.T, self.uv, self.faces, self.copies)

    def copied(
        self, centers: Float[np.ndarray, "k 3"], rotmats: Float[np.ndarray, "k 3 3"]
    ) -> "Mesh":
        """Arrange k copies, each rotated about the origin and translated."""
        count, points = len(centers), len(self.vertices)
        vertices = self.vertices @ rotmats.transpose(0, 2, 1) + centers[:, None]
        normals = self.normals @ rotmats.transpose(0, 2, 1)
        faces = self.faces + points * np.arange(count)[:, None, None]
        return Mesh(
            vertices.reshape(-1, 3),
            normals.reshape(-1, 3),
            np.tile(self.uv, (count, 1)),
            faces.reshape(-1, 3),
            count,
        )

    def faceted(self) -> "Mesh":
        """Give every triangle its own vertices and its flat normal."""
        corners = self.vertices[self.faces]
        normals = cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        keep = (normals * normals).sum(1) > EPS**2
        corners, uv = corners[keep].reshape(-1, 3), self.uv[self.faces[keep].ravel()]
        faces = np.arange(len(corners)).reshape(-1, 3)
        return Mesh(corners, np.repeat(unit(normals[keep]), 3, 0), uv, faces)


def cross(a: Float[np.ndarray, "*k 3"], b: Float[np.ndarray, "*k 3"]) -> np.ndarray:
    """Return cross products; np.cross takes several times as long on small arrays."""
    one, two = [1, 2, 0], [2, 0, 1]
    return np.asarray(a[..., one] * b[..., two] - a[..., two] * b[..., one])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Normalise vectors along the last axis; zero stays zero."""
    lengths = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    return np.asarray(vectors / np.maximum(lengths, EPS))


@functools.lru_cache(maxsize=256)
def grid_faces(rows: int, columns: int) -> Int[np.ndarray, "m 3"]:
    """Return two triangles for each cell of a grid of points."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1, :-1], index[1:, :-1]
    c, d = index[1:, 1:], index[:-1, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2)
    return faces.reshape(-1, 3)


def _slope(points: np.ndarray, axis: int, closed: bool) -> np.ndarray:
    """Differences of neighbours along an axis, central inside; a closed axis repeats its first."""
    p = np.moveaxis(points, axis, 0)
    if closed:
        p = np.concatenate([p[-2:-1], p, p[1:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    return np.moveaxis(p[2:] - p[:-2], 0, axis)


def surface(points: Float[np.ndarray, "r c 3"], closed: bool = False) -> Mesh:
    """Make a smooth surface through a grid of points.

    Args:
        points: Grid of positions.
        closed: Whether the last column repeats the first one.
    """
    rows, columns = points.shape[:2]
    normals = unit(cross(_slope(points, 0, False), _slope(points, 1, closed)))
    steps = [np.sqrt((np.diff(points, axis=axis) ** 2).sum(-1)).mean(1 - axis) for axis in (0, 1)]
    v, u = (np.concatenate([[0.0], step.cumsum()]) for step in steps)
    uv = np.stack(np.broadcast_arrays(u[None], v[:, None]), -1)
    return Mesh(
        points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), grid_faces(rows, columns)
    )


def _unit_cube() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return corners [24 3], normals [24 3], axes of the texture [24 2] and faces [12 3]."""
    corners, normals, axes = [], [], []
    faces: list[np.ndarray] = []
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for axis in range(3):
        one, two = ((1, 2), (0, 2), (0, 1))[axis]
        for sign in (-1, 1):
            corner = np.zeros((4, 3))
            corner[:, axis], corner[:, [one, two]] = sign, square
            corners.append(corner)
            normals.append(np.tile(sign * np.eye(3)[axis], (4, 1)))
            axes.append(np.tile([one, two], (4, 1)))
            base = 4 * len(faces)
            faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + base)
    return (*(np.concatenate(parts) for parts in (corners, normals, axes, faces)),)  # type: ignore[return-value]


_CORNERS, _NORMALS, _AXES, _FACES = _unit_cube()


def boxes(centers: Float[np.ndarray, "k 3"], halves: Float[np.ndarray, "k 3"]) -> Mesh:
    """Make k boxes with axes parallel to the coordinate axes, from their half extents."""
    count = len(centers)
    local = _CORNERS * halves[:, None]
    uv = local[:, np.arange(24)[:, None], _AXES]
    faces = _FACES + 24 * np.arange(count)[:, None, None]
    return Mesh(
        (local + centers[:, None]).reshape(-1, 3),
        np.tile(_NORMALS, (count, 1)),
        uv.reshape(-1, 2),
        faces.reshape(-1, 3),
        count,
    )


def frames_along(directions: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3 3"]:
    """Return rotations whose third column is along the directions."""
    z = unit(directions)
    helper = np.where(np.abs(z[:, 2:]) < 0.9, [[0.0, 0, 1]], [[1.0, 0, 0]])
    x = unit(cross(helper, z))
    return np.stack([x, cross(z, x), z], -1)


def rods(
    starts: Float[np.ndarray, "k 3"],
    ends: Float[np.ndarray, "k 3"],
    radius: float | Float[np.ndarray, " k"],
    sides: int = 5,
) -> Mesh:
    """Make k straight open tubes between pairs of points."""
    count = len(starts)
    frames = frames_along(ends - starts)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = frames[:, None, :, 0] * np.cos(angle)[:, None] + (
        frames[:, None, :, 1] * np.sin(angle)[:, None]
    )
    wide = np.broadcast_to(np.asarray(radius, float).reshape(-1, 1, 1), (count, 1, 1))
    rims = np.stack([starts[:, None] + wide * ring, ends[:, None] + wide * ring], 1)
    lengths = np.linalg.norm(ends - starts, axis=1)
    u = np.broadcast_to(angle * wide[:, 0], (count, sides + 1))
    uv = np.zeros((count, 2, sides + 1, 2))
    uv[..., 0] = u[:, None]
    uv[:, 1, :, 1] = lengths[:, None]
    faces = grid_faces(2, sides + 1) + 2 * (sides + 1) * np.arange(count)[:, None, None]
    normals = np.stack([ring, ring], 1)
    return Mesh(
        rims.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces.reshape(-1, 3), count
    )
