"""Textures of meshes: unwrapped by xatlas, coloured from photos or from renders of the scene."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.errors import ConfigError
from recon.meshing.colors import point_colors
from recon.meshing.depth_maps import DepthMap
from recon.meshing.triangles import TriangleMesh, library
from recon.types import Progress
from render import Cameras, Gaussians, RasterizeSettings, rasterize

# Number of triangles if none is given, which xatlas unwraps in reasonable time.
TEXTURE_FACES = 50_000
# Sizes of a texture (px), longer side of the images that it is made from (px).
MIN_TEXTURE_PX, MAX_TEXTURE_PX, IMAGE_PX = 64, 16384, 1280
# Texels between charts, and subdivisions of a texel for their corners (powers of two).
PADDING, SHIFT = 2, 4
# The best view counts this much more than others (see `colors.SHARPNESS`): sharp, without seams.
SHARPNESS = 16.0


@dataclass(frozen=True)
class _Texels:
    """Texels of a texture that belong to triangles."""

    rows: Int[np.ndarray, " n"]
    columns: Int[np.ndarray, " n"]
    faces: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, "n 3"]
    """Barycentric coordinates."""


def check_texture_size(size_px: int) -> None:
    """Raise ConfigError for a size of a texture that cannot be used."""
    if not MIN_TEXTURE_PX <= size_px <= MAX_TEXTURE_PX:
        raise ConfigError(
            f"texture must be from {MIN_TEXTURE_PX} to {MAX_TEXTURE_PX:,} px, got {size_px}",
            "texture",
        )


def rendered_images(
    gaussians: Gaussians, cameras: list[Cameras], antialiased: bool
) -> list[Float[Tensor, "4 h w"]]:
    """Render the scene for a texture, where there are no photos: colours, and ones as a mask."""
    settings = RasterizeSettings(antialiased=antialiased, render_mode="RGB")
    images = []
    for camera in cameras:
        scale = IMAGE_PX / max(camera.width, camera.height)
        size = (max(1, round(scale * side)) for side in (camera.width, camera.height))
        rgb = rasterize(gaussians, camera.resized(*size), settings=settings).rgb[0].clamp(0, 1)
        images.append(torch.cat([rgb, torch.ones_like(rgb[:1])]))
    return images


def textured(
    mesh: TriangleMesh,
    maps: list[DepthMap],
    images: list[Float[Tensor, "4 _ _"]],
    size_px: int,
    progress: Progress,
) -> TriangleMesh:
    """Return a mesh with a texture, whose vertices are split along the edges of its charts.

    Args:
        mesh: The mesh; its colours are left out.
        maps: What the cameras of the images see.
        images: Colours and mask (1 where they count) of the same views, of any size.
        size_px: Longer side of the texture (px).
        progress: Receives the completed fraction.

    Raises:
        MissingDependency: xatlas is not installed.
    """
    unwrapped, size = _unwrapped(mesh, size_px)
    progress(0.4)
    texels = _texels(unwrapped, size)
    corners = unwrapped.faces[texels.faces]
    normals = mesh.normals()[_origin(mesh, unwrapped)]
    points = _interpolated(unwrapped.vertices, corners, texels.weights)
    directions = _interpolated(normals, corners, texels.weights)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    colors = point_colors(maps, points, directions, images, SHARPNESS)
    progress(0.9)
    texture = np.zeros((*size, 3), np.float32)
    known = np.zeros(size, bool)
    texture[texels.rows, texels.columns] = colors
    known[texels.rows, texels.columns] = True
    return replace(unwrapped, texture=_filled(texture, known))


def _unwrapped(mesh: TriangleMesh, size_px: int) -> tuple[TriangleMesh, tuple[int, int]]:
    """Return the mesh with texture coordinates, and height and width of the texture."""
    xatlas = library("xatlas")
    # Far from zero float32 would join vertices.
    middle = mesh.vertices.mean(0)
    atlas = xatlas.Atlas()
    atlas.add_mesh(
        np.ascontiguousarray(mesh.vertices - middle, np.float32),
        np.ascontiguousarray(mesh.faces, np.uint32),
    )
    options = xatlas.PackOptions()
    options.resolution, options.padding, options.bilinear = size_px, PADDING, True
    atlas.generate(xatlas.ChartOptions(), options)
    vertex, faces, uv = atlas[0]
    # xatlas packs into about the resolution that it is asked for.
    scale = size_px / max(atlas.width, atlas.height)
    size = max(1, round(scale * atlas.height)), max(1, round(scale * atlas.width))
    vertices = mesh.vertices[vertex]
    return TriangleMesh(vertices, faces.astype(np.int64), uv=uv.astype(np.float64)), size


def _origin(mesh: TriangleMesh, unwrapped: TriangleMesh) -> Int[np.ndarray, " n"]:
    """Return the vertex of the mesh that each vertex of its unwrapped version is."""
    origin = np.zeros(len(unwrapped.vertices), np.int64)
    origin[unwrapped.faces] = mesh.faces
    return origin


def _texels(mesh: TriangleMesh, size: tuple[int, int]) -> _Texels:
    """Find the texels that triangles touch."""
    assert mesh.uv is not None
    # Continuous coordinates start at the corner of the first texel; OpenCV's at its centre.
    corners = (mesh.uv * size[::-1])[mesh.faces]
    fixed = np.rint((corners - 0.5) * (1 << SHIFT)).astype(np.int32)
    owner = np.zeros(size, np.int32)
    for index, corner in enumerate(fixed):
        cv2.fillConvexPoly(owner, corner, index + 1, cv2.LINE_8, SHIFT)
    rows, columns = owner.nonzero()
    faces = owner[rows, columns].astype(np.int64) - 1
    a, b, c = (corners[faces, corner] for corner in range(3))
    point = np.stack([columns + 0.5, rows + 0.5], 1)
    ab, ac, ap = b - a, c - a, point - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    second = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    third = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    weights = np.stack([1 - second - third, second, third], 1)
    # Texels at the edge of a triangle have their centre outside, by less than a texel.
    weights = np.clip(weights, 0, 1)
    weights /= weights.sum(1, keepdims=True)
    return _Texels(rows, columns, faces, weights)


def _interpolated(
    values: Float[np.ndarray, "n c"],
    corners: Int[np.ndarray, "m 3"],
    weights: Float[np.ndarray, "m 3"],
) -> Float[np.ndarray, "m c"]:
    total = np.zeros((len(corners), values.shape[1]))
    for corner in range(3):
        total += weights[:, corner : corner + 1] * values[corners[:, corner]]
    return total


def _filled(texture: Float[np.ndarray, "h w 3"], known: np.ndarray) -> Float[np.ndarray, "h w 3"]:
    """Give other texels the colour of the nearest one, so that smaller versions have no seams."""
    if not known.any() or known.all():
        return texture
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros((labels.max() + 1, 3), np.float32)
    source[labels[known]] = texture[known]
    return np.asarray(source[labels])
