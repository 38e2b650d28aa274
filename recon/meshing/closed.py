"""Closed meshes, which stay closed with fewer triangles (manifold3d)."""

from typing import Any

import numpy as np

from recon.errors import InputError
from recon.meshing.triangles import TriangleMesh, library

# First tolerance of the simplification, as a fraction of the diagonal, and the factor of the next.
FIRST_TOLERANCE, GROWTH, MAX_TOLERANCE = 1e-4, 1.5, 0.2


def simplified(mesh: TriangleMesh, count: int | None) -> TriangleMesh:
    """Return a closed mesh as manifold3d accepts it, of at most `count` triangles if possible.

    Raises:
        InputError: The mesh is not closed, or does not become as small.
    """
    middle = mesh.vertices.mean(0)
    solid = as_manifold(mesh.vertices - middle, mesh.faces)
    diagonal = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    tolerance, reduced = FIRST_TOLERANCE, solid
    while count is not None and reduced.num_tri() > count:
        if tolerance > MAX_TOLERANCE:
            raise InputError(
                f"the closed mesh has {reduced.num_tri():,} triangles at least; expected a larger "
                f"--faces than {count:,}"
            )
        reduced = solid.simplify(tolerance * diagonal)
        tolerance *= GROWTH
    found = reduced.to_mesh()
    vertices = np.asarray(found.vert_properties, np.float64)[:, :3] + middle
    return TriangleMesh(vertices, np.asarray(found.tri_verts, np.int64), name=mesh.name)


def as_manifold(vertices: np.ndarray, faces: np.ndarray) -> Any:
    """Return a solid of manifold3d; InputError if the triangles do not close it."""
    manifold3d = library("manifold3d")
    triangles = manifold3d.Mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    solid = manifold3d.Manifold(triangles)
    if solid.status() != manifold3d.Error.NoError or solid.is_empty():
        raise InputError(f"the surface cannot be closed: {solid.status()}; leave --watertight out")
    return solid
