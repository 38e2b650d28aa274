"""Mesh files as triangles with looks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from training.data.types import Unusable

# Texture files may be huge; pictures of 256 px do not show more than this (px).
MAX_TEXTURE_PX = 1024


@dataclass(frozen=True)
class Soup:
    """Triangles of all parts of a file, in a unit sphere around the origin, z up."""

    vertices: np.ndarray
    """[n 3]"""
    normals: np.ndarray
    """[n 3], unit."""
    faces: np.ndarray
    """[m 3]"""
    uv: np.ndarray
    """[n 2], (0, 0) at the bottom left of the texture."""
    tints: np.ndarray
    """[n 3] sRGB in [0, 1], by which textures are multiplied."""
    material: np.ndarray
    """[m] number of each face's texture."""
    textures: tuple[np.ndarray, ...]
    """[h w 3] sRGB in [0, 1]."""


def load_soup(path: Path) -> Soup:
    """A GLB, glTF or OBJ file, taken as y up; Unusable when there is nothing to show."""
    try:
        scene = trimesh.load_scene(path, process=False)
        parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
    except Exception:  # trimesh and what it calls raise anything on broken files
        raise Unusable("unreadable mesh") from None
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise Unusable("mesh without triangles")
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    looks = [_looks(part) for part in parts]
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
        uv=np.concatenate([look[0] for look in looks]),
        tints=np.concatenate([look[1] for look in looks]),
        material=np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts]),
        textures=tuple(look[2] for look in looks),
    )


def _vertex_normals(part: trimesh.Trimesh) -> np.ndarray:
    """Means of the faces around, by area (trimesh's own need scipy)."""
    corners = part.vertices[part.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(part.vertices), 3))
    for corner in range(3):
        np.add.at(normals, part.faces[:, corner], areas)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _looks(part: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texture coordinates, colour of every vertex, and the texture."""
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
        # A diffuse colour beside a texture is often black by mistake.
        tint = material.main_color if image is None else [255, 255, 255]
    tints = np.tile(np.asarray(tint, float)[:3] / 255, (count, 1))
    if image is None or visual.uv is None:
        return uv, tints, white
    picture = image.convert("RGB")
    picture.thumbnail((MAX_TEXTURE_PX, MAX_TEXTURE_PX))
    return np.asarray(visual.uv)[:, :2], tints, np.asarray(picture) / 255
