"""A mesh of a scene: depth maps, fusion, surface, fewer triangles, colours."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.meshing.closed import closed_mesh
from recon.meshing.colors import masked_points, point_colors
from recon.meshing.depth_maps import render_depth_maps
from recon.meshing.texture import rendered_images, textured
from recon.meshing.triangles import TriangleMesh, compacted, decimated, library, seen_surface
from recon.meshing.volume import MAX_VOXELS, fuse
from recon.types import StageProgress
from render import Cameras, Gaussians


@dataclass(frozen=True)
class MeshConfig:
    """What mesh to make."""

    faces: int | None = None
    """Largest number of triangles; None keeps all."""
    watertight: bool = False
    """Close the surface."""
    colors: bool = True
    """Give the vertices colours."""
    texture_px: int | None = None
    """Longer side of a texture, which replaces the colours of the vertices; None makes none."""
    max_voxels: int = MAX_VOXELS
    """Largest number of voxels of the grid, which bounds memory and time."""


def check_libraries(watertight: bool, collision: bool = False, texture: bool = False) -> None:
    """Raise MissingDependency unless the extra `mesh` is installed."""
    more = ("manifold3d",) * watertight + ("coacd",) * collision + ("xatlas",) * texture
    for name in ("skimage.measure", "fast_simplification", *more):
        library(name)


@torch.no_grad()
def extract_mesh(
    gaussians: Gaussians,
    cameras: list[Cameras],
    config: MeshConfig,
    antialiased: bool = False,
    progress: StageProgress = lambda stage, done: None,
    photos: list[Float[Tensor, "4 _ _"]] | None = None,
) -> TriangleMesh:
    """Make a mesh of the surfaces that cameras see.

    Args:
        gaussians: The scene.
        cameras: Cameras of one view each (with the axis v), in the frame of the scene.
        config: What mesh to make.
        antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
        progress: Called with the stage and its completed fraction.
        photos: Colours and mask of the views of the first cameras, for the texture; renders of the
            scene if omitted. An open surface that most of them have masked out is removed.

    Raises:
        InputError: The cameras see no surface.
        MissingDependency: The extra `mesh` is not installed.
    """
    check_libraries(config.watertight, texture=config.texture_px is not None)
    maps = render_depth_maps(
        gaussians, cameras, antialiased, lambda done: progress("rendering depth", done)
    )
    volume = fuse(maps, lambda done: progress("fusing depth maps", done), config.max_voxels)
    progress("extracting the surface", 0.0)
    if config.watertight:
        mesh = closed_mesh(volume, config.faces)
    else:
        mesh = seen_surface(volume, len(maps))
        if photos is not None:
            masked = masked_points(maps[: len(photos)], mesh.vertices, photos)
            mesh = compacted(mesh.vertices, mesh.faces[~masked[mesh.faces].all(1)])
        mesh = mesh if config.faces is None else decimated(mesh, config.faces)
    if config.colors and config.texture_px is None:
        mesh = replace(mesh, colors=point_colors(maps, mesh.vertices, mesh.normals()))
    progress("extracting the surface", 1.0)
    if config.texture_px is None:
        return mesh
    images = photos or rendered_images(gaussians, cameras, antialiased)
    seen = maps[: len(images)]
    return textured(
        mesh, seen, images, config.texture_px, lambda done: progress("making the texture", done)
    )
