"""Triangle meshes: their values, surfaces of volumes, small pieces, fewer triangles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from recon.errors import InputError, MissingDependency
from recon.meshing.volume import Volume

# Pieces with less than this fraction of the triangles of the largest one are removed.
MIN_PIECE = 0.01
# Confidence that every corner of a voxel with a surface must have: at least, for each camera of the
# scene, and at most; more than one camera is needed where there are many.
MIN_WEIGHT, WEIGHT_PER_CAMERA, MAX_MIN_WEIGHT = 0.3, 0.07, 1.0


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """Triangles in the axes of the scene, counterclockwise from outside."""

    vertices: Float[np.ndarray, "n 3"]
    """Positions relative to the origin of the scene."""
    faces: Int[np.ndarray, "m 3"]
    colors: Float[np.ndarray, "n 3"] | None = None
    """Display sRGB in [0, 1]."""
    uv: Float[np.ndarray, "n 2"] | None = None
    """Texture coordinates, (0, 0) at the top left corner of the image."""
    texture: Float[np.ndarray, "h w 3"] | None = None
    """Display sRGB in [0, 1]."""
    name: str = "mesh"

    def normals(self) -> Float[np.ndarray, "n 3"]:
        """Return unit normals of the vertices, weighted by the areas of their triangles."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        area = np.cross(b - a, c - a)
        total = np.zeros_like(self.vertices)
        for corner in range(3):
            for axis in range(3):
                total[:, axis] += np.bincount(
                    self.faces[:, corner], area[:, axis], len(self.vertices)
                )
        return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30))


def library(name: str) -> Any:
    """Import a package of the extra `mesh`.

    Raises:
        MissingDependency: It is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MissingDependency(
            f"{package} is not installed: pip install 'reconsplat[mesh]'"
        ) from None


def seen_surface(volume: Volume, cameras: int) -> TriangleMesh:
    """Return the surfaces that cameras see, with holes where none does.

    Args:
        volume: Signed distances.
        cameras: Number of cameras that they were measured from.
    """
    needed = min(max(MIN_WEIGHT, WEIGHT_PER_CAMERA * cameras), MAX_MIN_WEIGHT)
    known = (volume.weight > needed).numpy()
    return _without_small_pieces(marching_cubes(volume, volume.distance.numpy(), known))


def marching_cubes(
    volume: Volume, distance: Float[np.ndarray, "x y z"], known: np.ndarray | None
) -> TriangleMesh:
    """Return the surface between negative and positive distances.

    Args:
        volume: Position and size of the voxels.
        distance: Signed distances, positive in free space.
        known: Where the surface may be; None is everywhere.

    Raises:
        InputError: There is none.
    """
    measure = library("skimage.measure")
    if distance.min() >= 0 or distance.max() <= 0:
        raise no_surface()
    # scikit-image calls descent what winds triangles counterclockwise around low values.
    vertices, faces, _, _ = measure.marching_cubes(distance, 0.0, gradient_direction="descent")
    if known is not None:
        # A vertex is on an edge of the grid, whose two ends must be known.
        below = np.floor(vertices).astype(int)
        above = np.ceil(vertices).astype(int)
        good = known[tuple(below.T)] & known[tuple(above.T)]
        faces = faces[good[faces].all(1)]
    if len(faces) == 0:
        raise no_surface()
    low = volume.low.double().numpy()
    return TriangleMesh(low + volume.voxel * vertices.astype(np.float64), faces.astype(np.int64))


def no_surface() -> InputError:
    """Return the error of a volume without a surface."""
    return InputError(
        "the cameras do not agree on any surface; expected cameras of this scene; pass those "
        "of its capture"
    )


def _without_small_pieces(mesh: TriangleMesh) -> TriangleMesh:
    """Remove pieces with few triangles."""
    count, piece = pieces(mesh)
    size = np.bincount(piece, minlength=count)
    keep = size >= max(MIN_PIECE * size.max(), 4)
    return compacted(mesh.vertices, mesh.faces[keep[piece]])


def pieces(mesh: TriangleMesh) -> tuple[int, Int[np.ndarray, " m"]]:
    """Return the number of connected pieces, and the index of the piece of each triangle."""
    sparse, graph = library("scipy.sparse"), library("scipy.sparse.csgraph")
    first = np.concatenate([mesh.faces[:, 0], mesh.faces[:, 1]])
    second = np.concatenate([mesh.faces[:, 1], mesh.faces[:, 2]])
    size = len(mesh.vertices)
    edges = sparse.coo_matrix((np.ones(len(first), bool), (first, second)), (size, size))
    count, label = graph.connected_components(edges, directed=False)
    return int(count), np.asarray(label[mesh.faces[:, 0]])


def compacted(vertices: np.ndarray, faces: np.ndarray) -> TriangleMesh:
    """Return a mesh without the vertices that no triangle has."""
    used, index = np.unique(faces, return_inverse=True)
    return TriangleMesh(vertices[used], index.reshape(-1, 3))


def decimated(mesh: TriangleMesh, count: int) -> TriangleMesh:
    """Return a mesh of at most `count` triangles, by quadric errors (Garland & Heckbert 1997)."""
    if len(mesh.faces) <= count:
        return mesh
    simplify = library("fast_simplification").simplify
    middle = mesh.vertices.mean(0)
    points = np.ascontiguousarray(mesh.vertices - middle, np.float32)
    vertices, faces = simplify(points, mesh.faces.astype(np.int32), target_count=count)
    return compacted(vertices.astype(np.float64) + middle, faces.astype(np.int64))
