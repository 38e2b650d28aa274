"""Floaters: Gaussians apart from all others, in front of the surfaces that cameras see.

The depth that cameras see tells where surfaces are. Floaters would be in it themselves, and hide
what is behind them: so it is rendered without all that is apart from others or haze, and of these
Gaussians those go that most cameras see through, unless photos need them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.cleaning.photo_evidence import wanted_by_photos, warn_of_other_scene
from recon.errors import warn
from recon.fusion.config import FusionConfig
from recon.fusion.free_space import DepthMaps, is_seen_through
from recon.meshing.depth_maps import render_depth_maps
from recon.meshing.triangles import library
from recon.types import StageProgress, Views
from render import Cameras, Gaussians


@dataclass(frozen=True)
class CleanConfig:
    """Which Gaussians are floaters."""

    resolution: int = 256
    """Length of the longer side of the depth maps (px)."""
    agreement: FusionConfig = FusionConfig(edge_px=1)
    """When a Gaussian is at a surface, and when cameras see through it."""
    neighbours: int = 8
    """Number of neighbours that a Gaussian of a surface has close by."""
    spacing_px: float = 8.0
    """Distance of the farthest of these, in pixels of the nearest camera, above which a Gaussian is
    apart from others."""
    spacing_sizes: float = 1.0
    """The same in its own largest standard deviations: Gaussians of a sparse background overlap."""
    haze_ratio: float = 0.05
    """Size of a Gaussian relative to its distance from the nearest camera, above which a faint one
    is haze."""
    haze_opacity: float = 0.3
    """Opacity below which a Gaussian is faint."""
    passes: int = 3
    """Number of passes: floaters hide the surfaces behind them, and are neighbours of others."""
    min_gain: float = 0.1
    """By how much a Gaussian lowers the squared error of photos at `resolution` to be kept, summed
    over pixels and colour channels (see `wanted_by_photos`)."""


@torch.no_grad()
def find_floaters(
    gaussians: Gaussians,
    cameras: list[Cameras],
    config: CleanConfig | None = None,
    antialiased: bool = False,
    progress: StageProgress = lambda stage, done: None,
    photos: Views | None = None,
) -> Bool[Tensor, " n"]:
    """Return which Gaussians are floaters.

    Args:
        gaussians: The scene.
        cameras: Cameras of one view each (with the axis v), in the frame of the scene.
        config: Which Gaussians are floaters; has defaults.
        antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
        progress: Called with the stage and its completed fraction.
        photos: Photos of the scene at `config.resolution`, with cameras in its frame, which keep
            what they need.

    Raises:
        MissingDependency: The extra `mesh` is not installed.
    """
    config = config or CleanConfig()
    if photos is not None:
        warn_of_other_scene(gaussians, photos, antialiased)
    remaining = torch.arange(len(gaussians))
    for index in range(config.passes):
        progress("removing floaters", index / config.passes)
        found = _one_pass(gaussians[remaining], cameras, config, antialiased)
        remaining = remaining[~found]
        if not found.any():
            break
    progress("removing floaters", 1.0)
    floaters = torch.ones(len(gaussians), dtype=torch.bool)
    floaters[remaining] = False
    if photos is not None and floaters.any():
        floaters[floaters.clone()] = ~wanted_by_photos(
            gaussians[~floaters], gaussians[floaters], photos, config.min_gain, antialiased
        )
    return floaters


def _one_pass(
    gaussians: Gaussians, cameras: list[Cameras], config: CleanConfig, antialiased: bool
) -> Bool[Tensor, " n"]:
    """Return which Gaussians are floaters, as far as the others let the surfaces be seen."""
    chosen = _candidates(gaussians, cameras, config)
    maps = render_depth_maps(gaussians[~chosen], cameras, antialiased, lambda done: None)
    depths = [
        DepthMaps(seen.camera, seen.depth.clamp_min(1e-9)[None], (seen.depth > 0).float()[None])
        for seen in maps
    ]
    if not any((seen.depth > 0).any() for seen in maps):
        warn(
            "the cameras see no surface of the scene, so that no floater can be found; pass those "
            "of the capture of this scene"
        )
    chosen[chosen.clone()] = is_seen_through(gaussians[chosen], depths, config.agreement)
    return chosen


def _candidates(
    gaussians: Gaussians, cameras: list[Cameras], config: CleanConfig
) -> Bool[Tensor, " n"]:
    """Return which Gaussians are apart from others, or haze."""
    distance = torch.full((len(gaussians),), torch.inf)
    pixel = distance.clone()
    for camera in cameras:
        away = (gaussians.means - camera.centers[0]).norm(dim=1)
        distance = torch.minimum(distance, away)
        pixel = torch.minimum(pixel, away / camera.Ks[0, 0, 0])
    size = gaussians.scales.amax(1)
    spacing = neighbour_distance(gaussians.means, config.neighbours)
    apart = (spacing > config.spacing_px * pixel) & (spacing > config.spacing_sizes * size)
    huge = size > config.haze_ratio * distance
    return apart | (huge & (gaussians.opacities < config.haze_opacity))


def neighbour_distance(points: Float[Tensor, "n 3"], count: int) -> Float[Tensor, " n"]:
    """Return the distance of each point to its neighbour of this rank."""
    values = points.double().numpy()
    tree = library("scipy.spatial").cKDTree(values)
    found = tree.query(values, k=count + 1)[0][:, -1]
    return torch.from_numpy(np.asarray(found)).float()
