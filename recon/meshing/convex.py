"""Convex parts of closed meshes, which physics engines need for things that move (CoACD)."""

import numpy as np

from recon.meshing.triangles import TriangleMesh, library

# Number of triangles of a mesh for collisions, unless another is asked for.
COLLISION_FACES = 2000
# Concavity that a part may have, relative to the size of the mesh; largest number of parts.
CONCAVITY, MAX_PARTS = 0.1, 64
# Effort of the search for planes to cut by: more takes longer, for few parts less.
ITERATIONS, DEPTH = 30, 2


def convex_parts(mesh: TriangleMesh) -> list[TriangleMesh]:
    """Return convex meshes that together cover a closed one.

    The method is that of Wei et al. 2022, "Approximate convex decomposition for 3D meshes with
    collision-aware concavity and tree search". The parts of a mesh named `mesh` are named
    `UCX_mesh_00` and so on, as Unreal Engine expects.

    Args:
        mesh: A closed mesh, of few triangles.

    Raises:
        MissingDependency: The extra `mesh` is not installed.
    """
    coacd = library("coacd")
    coacd.set_log_level("error")
    middle = mesh.vertices.mean(0)
    found = coacd.run_coacd(
        coacd.Mesh(mesh.vertices - middle, mesh.faces),
        threshold=CONCAVITY,
        max_convex_hull=MAX_PARTS,
        preprocess_mode="off",
        mcts_iterations=ITERATIONS,
        mcts_max_depth=DEPTH,
        seed=0,
    )
    return [
        TriangleMesh(vertices + middle, faces.astype(np.int64), name=f"UCX_{mesh.name}_{index:02d}")
        for index, (vertices, faces) in enumerate(found)
    ]
