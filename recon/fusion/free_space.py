"""Free space: Gaussians that other views see through are removed.

Every depth map says that the space in front of its surface is empty. A Gaussian there contradicts
it, one at its surface is confirmed by it (free-space violations and support in depth-map fusion,
Merrell et al. 2007, "Real-time visibility-based fusion of depth maps", section 3).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from recon.fusion.config import FusionConfig
from render import Cameras, Gaussians

# Support of a Gaussian by the view that it was predicted from.
OWN_SUPPORT = 0.5
# Quantile of a depth map that counts as its nearest depth: less than that may be wrong.
NEAR_QUANTILE = 0.02
MAX_SAMPLES = 100_000


@dataclass(frozen=True)
class DepthMaps:
    """Depth maps of several views, all of one size."""

    cameras: Cameras
    """Cameras at the size of the maps."""
    depth: Float[Tensor, "v h w"]
    """z, world units."""
    confidence: Float[Tensor, "v h w"]
    """Confidence of the depth, 0 to 1."""


@dataclass(frozen=True)
class Agreement:
    """Sums of the confidences of the views that a Gaussian projects into."""

    support: Float[Tensor, " n"]
    """Views that see a surface at the Gaussian's depth."""
    violation: Float[Tensor, " n"]
    """Views that see a surface behind the Gaussian."""


def is_consistent(
    gaussians: Gaussians, source: Int[Tensor, " n"], maps: DepthMaps, config: FusionConfig
) -> Bool[Tensor, " n"]:
    """Return which Gaussians do not contradict the other views.

    Args:
        gaussians: Gaussians in the frame of the cameras.
        source: Index of the depth map that each Gaussian belongs to, which is left out.
        maps: Depth maps of all views.
        config: Tolerances.
    """
    found = measure_agreement(gaussians, source, maps, config)
    support = OWN_SUPPORT + found.support
    consistent = found.violation <= config.max_violation * support
    near = _is_near_camera(gaussians, maps, config.free_radius)
    if len(maps.depth) >= config.min_views_supported:
        near |= _is_nearer_to_others(gaussians, source, maps.cameras, config.near_other)
    # Of few views, fewer can agree.
    needed = config.min_support * min(1.0, len(maps.depth) / config.min_views_supported)
    return consistent & (~near | (found.support >= needed))


def is_seen_through(
    gaussians: Gaussians, maps: Iterable[DepthMaps], config: FusionConfig
) -> Bool[Tensor, " n"]:
    """Return which Gaussians more of the views see through than see at their surface.

    Args:
        gaussians: Gaussians in the frame of the cameras, which belong to none of the depth maps.
        maps: Rendered depth of the views, those of one size together.
        config: Tolerances.
    """
    excess = torch.zeros(len(gaussians), device=gaussians.device)
    for same_size in maps:
        found = measure_agreement(gaussians, None, same_size, config)
        excess += found.violation - found.support
    return excess > 0


def measure_agreement(
    gaussians: Gaussians, source: Int[Tensor, " n"] | None, maps: DepthMaps, config: FusionConfig
) -> Agreement:
    """Compare the depth of each Gaussian with the depth maps of all views but its source."""
    width = maps.depth.shape[2]
    surface = maps.depth.log()
    # The nearest surface around a pixel: at an edge it may be one or the other.
    nearest = -max_pool2d(-surface[:, None], 2 * config.edge_px + 1, 1, config.edge_px)[:, 0]
    support = torch.zeros(len(gaussians), device=gaussians.device)
    violation = torch.zeros_like(support)
    for view in range(len(maps.depth)):
        pixels, depth = maps.cameras[view].project(gaussians.means)
        seen = maps.cameras.contains(pixels, depth)
        if source is not None:
            seen &= source != view
        index = seen.nonzero()[:, 0]
        column, row = pixels[index].long().unbind(-1)
        pixel = row * width + column
        own, confidence = depth[index].log(), maps.confidence[view].flatten()[pixel]
        agrees = (own - surface[view].flatten()[pixel]).abs() <= config.tolerance
        in_front = own < nearest[view].flatten()[pixel] - config.tolerance
        support[index] += confidence * agrees
        violation[index] += confidence * in_front
    return Agreement(support, violation)


def _is_nearer_to_others(
    gaussians: Gaussians, source: Int[Tensor, " n"], cameras: Cameras, ratio: float
) -> Bool[Tensor, " n"]:
    """Return which Gaussians are nearer to another camera than `ratio` of the own distance."""
    limit = ratio * (gaussians.means - cameras.centers[source]).norm(dim=-1)
    near = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    for center in cameras.centers:
        near |= (gaussians.means - center).norm(dim=-1) < limit
    return near


def _is_near_camera(gaussians: Gaussians, maps: DepthMaps, radius: float) -> Bool[Tensor, " n"]:
    """Return which Gaussians are so near to a camera that other cameras would be inside them."""
    near = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    for center, depth in zip(maps.cameras.centers, maps.depth, strict=True):
        subset = depth.flatten()[:: 1 + depth.numel() // MAX_SAMPLES]
        nearest = torch.quantile(subset, NEAR_QUANTILE)
        near |= (gaussians.means - center).norm(dim=-1) < radius * nearest
    return near
