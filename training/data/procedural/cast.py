"""First hits of rays with the triangles of a scene, by Embree."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from recon.errors import MissingDependency
from recon.memory import check_addresses
from training.data.procedural.builder import Layout

NEVER = 1e9


@dataclass(frozen=True)
class Hits:
    """The first surface of every ray."""

    depth: Float[np.ndarray, " r"]
    """Ray parameter; NEVER where nothing is hit."""
    face: Int[np.ndarray, " r"]
    """Index of the triangle; -1 where nothing is hit."""
    weights: Float[np.ndarray, "r 3"]
    """Barycentric coordinates."""


class Caster:
    """A layout with its ray-casting tree.

    Raises:
        MissingDependency: Embree is not installed.
        MemoryError: The limit of the process leaves Embree too little.
    """

    def __init__(self, layout: Layout) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise MissingDependency(
                f"dataset.procedural: {error}; pip install 'reconsplat[train]'"
            ) from None
        check_addresses("Embree")
        self._scene = EmbreeScene(robust=True)
        self._mesh = TriangleMesh(self._scene, layout.vertices, layout.faces)

    def hits(self, origins: Float[np.ndarray, "r 3"], dirs: Float[np.ndarray, "r 3"]) -> Hits:
        """Find the first surface in front of each origin (float32)."""
        found = self._scene.run(
            np.ascontiguousarray(origins), np.ascontiguousarray(dirs), output=True
        )
        face, u, v = found["primID"], found["u"], found["v"]
        depth = np.where(face < 0, np.float32(NEVER), found["tfar"])
        return Hits(depth, face, np.stack([1 - u - v, u, v], -1))

    def free(
        self,
        origins: Float[np.ndarray, "r 3"],
        dirs: Float[np.ndarray, "r 3"],
        reach: float = NEVER,
    ) -> Float[np.ndarray, " r"]:
        """Return 1 for rays that hit nothing before the ray parameter `reach`, else 0."""
        reaches = np.full(len(origins), reach, np.float32)
        hit = self._scene.run(
            np.ascontiguousarray(origins), np.ascontiguousarray(dirs), dists=reaches
        )
        return np.asarray(hit < 0, np.float32)
