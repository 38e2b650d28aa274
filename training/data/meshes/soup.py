"""Mesh files as textured triangle soups."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh

from training.data.types import Unusable

# Texture files may be huge; images of 256 px do not resolve more than this (px).
MAX_TEXTURE_PX = 1024


@dataclass(frozen=True)
class Soup:
    """Triangles of all parts of a file, scaled to the unit sphere around the origin, z up."""

    vertices: np.ndarray
    """Vertex positions [n 3]."""
    normals: np.ndarray
    """Unit vertex normals [n 3]."""
    faces: np.ndarray
    """Vertex indices of the triangles [m 3]."""
    uv: np.ndarray
    """Texture coordinates [n 2], (0, 0) at the bottom left of the texture."""
    tints: np.ndarray
    """Vertex colours [n 3], sRGB in [0, 1], by which textures are multiplied."""
    material: np.ndarray
    """Index of each triangle's texture [m]."""
    textures: tuple[np.ndarray, ...]
    """Images [h w 3], sRGB in [0, 1]."""


def load_soup(path: Path) -> Soup:
    """Load a GLB, glTF or OBJ file, assuming y up; raise Unusable if it has no triangles."""
    try:
        scene = trimesh.load_scene(path, process=False)
        parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
    except Exception:  # trimesh and what it calls raise anything on broken files
        raise Unusable("unreadable mesh") from None
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise Unusable("mesh without triangles")
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    surfaces = [_surface(part) for part in parts]
    vertices = np.concatenate([part.vertices for part in parts])
    if not np.isfinite(vertices).all():
        raise Unusable("mesh with vertices that are not finite")
    low, high = vertices.min(0), vertices.max(0)
    radius = 0.5 * float(np.linalg.norm(high - low))
    if radius <= 0:
        raise Unusable("mesh without extent")
    z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    return Soup(
        vertices=((vertices - 0.5 * (low + high)) / radius) @ z_up.T,
        normals=np.concatenate([_vertex_normals(part) for part in parts]) @ z_up.T,
        faces=np.concatenate([p.faces + o for p, o in zip(parts, offsets[:-1], strict=True)]),
        uv=np.concatenate([surface[0] for surface in surfaces]),
        tints=np.concatenate([surface[1] for surface in surfaces]),
        material=np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts]),
        textures=tuple(surface[2] for surface in surfaces),
    )


def in_box(soup: Soup) -> Soup:
    """Return the triangles scaled to the box [-1, 1]^3, of which they touch two sides."""
    return replace(soup, vertices=soup.vertices / np.abs(soup.vertices).max())


def _vertex_normals(part: trimesh.Trimesh) -> np.ndarray:
    """Average the normals of adjacent faces by area (trimesh's own function needs scipy)."""
    corners = part.vertices[part.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(part.vertices), 3))
    for corner in range(3):
        np.add.at(normals, part.faces[:, corner], areas)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(lengths, 1e-12))


def _surface(part: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return texture coordinates, vertex colours and the texture of a part."""
    count = len(part.vertices)
    white, uv = np.ones((1, 1, 3)), np.zeros((count, 2))
    visual = part.visual
    if not isinstance(visual, trimesh.visual.TextureVisuals):
        colors = getattr(visual, "vertex_colors", np.full((count, 3), 200))
        return uv, np.asarray(colors)[:, :3] / 255, white
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    tint = getattr(material, "baseColorFactor", None)
    if tint is None:
        # The diffuse colour of a textured material is often black by mistake.
        tint = material.main_color if image is None else [255, 255, 255]
    tints = np.tile(np.asarray(tint, float)[:3] / 255, (count, 1))
    if image is None or visual.uv is None:
        return uv, tints, white
    image = image.convert("RGB")
    image.thumbnail((MAX_TEXTURE_PX, MAX_TEXTURE_PX))
    return np.asarray(visual.uv)[:, :2], tints, np.asarray(image) / 255
