"""Meshes of a scene with their materials; every stage has random numbers of its own."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from training.data.procedural.mesh import Mesh
from training.data.procedural.shapes import Rng, log_uniform
from training.data.types import hashed_seed


@dataclass(frozen=True)
class Material:
    """How a surface reflects light."""

    texture: int
    """Index in the texture bank."""
    density: float
    """Textures per world unit."""
    strength: float
    """Contrast of the texture: 0 is plain."""
    tint: Float[np.ndarray, "3"]
    """Colour (linear) of a plain surface, and factor of a textured one."""
    gloss: float = 0.0
    """Strength of the highlight."""
    metal: float = 0.0
    """Fraction of the light that is a blurred reflection of the surroundings."""


@dataclass(frozen=True)
class Layout:
    """All triangles of a scene, with the attributes of their corners and materials."""

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]
    corners: Float[np.ndarray, "m 3 5"]
    """Normal and texture coordinates (textures) of each corner."""
    material: Int[np.ndarray, " m"]
    """Index of each triangle's material."""
    texture: Int[np.ndarray, " k"]
    """Texture of each material."""
    facts: Float[np.ndarray, "k 7"]
    """Density, strength, tint, gloss and metal of each material."""
    low: Float[np.ndarray, "s 3"]
    """Lower corners of the bounding boxes that no camera may be in."""
    high: Float[np.ndarray, "s 3"]
    """Upper corners of the bounding boxes."""


def stage_rng(seed: int, stage: str) -> Rng:
    """Return the random numbers of a stage: a new stage never shifts those of the others."""
    return np.random.Generator(np.random.PCG64(hashed_seed(f"{seed}/{stage}", 16)))


class Builder:
    """Collects meshes; call `stage` before adding those of a new stage."""

    def __init__(self, seed: int, textures: int, noises: int, complexity: float = 1.0) -> None:
        self.seed, self.textures, self.noises = seed, textures, noises
        self.complexity = complexity
        self.meshes: list[tuple[Mesh, int, bool]] = []
        self.materials: list[Material] = []
        self.extra: list[tuple[np.ndarray, np.ndarray]] = []
        self.stage("start")

    def stage(self, name: str) -> Rng:
        """Begin a stage and return its random numbers; materials have another set."""
        self.rng = stage_rng(self.seed, name)
        self._material_rng = stage_rng(self.seed, f"{name}, materials")
        return self.rng

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < probability)

    def count(self, low: int, high: int) -> int:
        """Draw a number of things from low to high, fewer at a low complexity."""
        drawn = int(self.rng.integers(low, high + 1))
        return min(low, drawn) + round(self.complexity * max(0, drawn - low))

    def material(self, style: str = "object") -> int:
        """Draw a material and return its index."""
        rng = self._material_rng
        plain = rng.random() < (0.5 if style == "wall" else 0.33)
        tint, density = _color(rng), log_uniform(rng, 0.25, 2.2)
        texture = int(rng.integers(self.textures))
        strength = 0.06 if plain else 1.0
        gloss = float(rng.uniform(0.1, 0.7)) if rng.random() < 0.3 else 0.0
        metal = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.1 else 0.0
        if style == "wall":
            light = rng.uniform(0.35, 0.85)
            tint, metal = light + 0.35 * (tint - tint.mean()), 0.0
            gloss *= 0.3
        elif style == "leaf":
            green = np.array([0.12, 0.28, 0.04]) * log_uniform(rng, 0.5, 2.0)
            autumn = np.array([0.45, 0.22, 0.03])
            tint = green + (autumn - green) * rng.random() ** 4
            strength, gloss, metal = 0.25, 0.3 * gloss, 0.0
        elif style == "ground":
            strength, gloss, metal = 0.9, 0.0, 0.0
            tint = tint * rng.uniform(0.6, 1.0) + 0.25
        elif style == "poster" and self.textures > self.noises:
            texture, strength = int(rng.integers(self.noises, self.textures)), 1.0
            density, tint = float(rng.uniform(0.4, 0.8)), np.ones(3)
        if strength == 1.0 and style != "poster" and rng.random() < 0.6:
            tint = np.ones(3)
        self.materials.append(
            Material(texture, density, strength, np.clip(tint, 0.01, 1), gloss, metal)
        )
        return len(self.materials) - 1

    def add(
        self,
        mesh: Mesh,
        center: Float[np.ndarray, "3"] | None = None,
        rotmat: Float[np.ndarray, "3 3"] | None = None,
        material: int | None = None,
        solid: bool = True,
    ) -> Mesh:
        """Add a mesh and return it where it was placed.

        Args:
            mesh: The mesh, around the origin.
            center: Where its origin is placed (world).
            rotmat: World from its own axes; None for the identity.
            material: Index of the material; None draws one.
            solid: Whether cameras must stay outside its bounding box.
        """
        if center is not None:
            mesh = mesh.moved(center, rotmat)
        self.meshes.append((mesh, self.material() if material is None else material, solid))
        return mesh

    def keep_out(self, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> None:
        """Keep cameras out of a box that is no mesh's own."""
        self.extra.append((low, high))

    def layout(self) -> Layout:
        """Join everything that was added."""
        meshes = [mesh for mesh, _, _ in self.meshes]
        offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
        vertices = np.concatenate([m.vertices for m in meshes]).astype(np.float32)
        faces = np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=False)])
        counts = [len(mesh.faces) for mesh in meshes]
        material = np.repeat([index for _, index, _ in self.meshes], counts)
        density = np.array([m.density for m in self.materials])
        uv = np.concatenate([m.uv for m in meshes])
        normals = np.concatenate([m.normals for m in meshes])
        attributes = np.concatenate([normals, uv], 1)[faces]
        attributes[..., 3:] *= density[material][:, None, None]
        low, high = _bounds(self.meshes, vertices, offsets)
        if self.extra:
            low = np.concatenate([low, [pair[0] for pair in self.extra]])
            high = np.concatenate([high, [pair[1] for pair in self.extra]])
        facts = [[m.density, m.strength, *m.tint, m.gloss, m.metal] for m in self.materials]
        return Layout(
            vertices,
            faces.astype(np.int32),
            attributes.astype(np.float32),
            material,
            np.array([m.texture for m in self.materials]),
            np.array(facts, np.float32),
            low,
            high,
        )


def _bounds(
    meshes: list[tuple[Mesh, int, bool]], vertices: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounding boxes of the parts of all solid meshes."""
    starts, solid = [], []
    for (mesh, _, is_solid), offset in zip(meshes, offsets, strict=False):
        step = len(mesh.vertices) // mesh.copies
        starts.append(offset + step * np.arange(mesh.copies))
        solid.append(np.full(mesh.copies, is_solid))
    start, keep = np.concatenate(starts), np.concatenate(solid)
    low = np.minimum.reduceat(vertices, start)
    high = np.maximum.reduceat(vertices, start)
    return low[keep], high[keep]


def _color(rng: Rng) -> Float[np.ndarray, "3"]:
    """Draw a linear colour; most are less saturated than uniform random ones."""
    color = rng.random(3)
    color = color.mean() + 1.2 * rng.random() ** 1.5 * (color - color.mean())
    color = np.clip(color, 0.02, None)
    return np.asarray(color / color.max() * log_uniform(rng, 0.08, 0.95))
