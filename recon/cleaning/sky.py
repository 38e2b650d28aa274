"""The sky of a scene: Gaussians above the horizon, far behind what the cameras are pointed at."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.errors import InputError
from render import Cameras, Gaussians

# Length of the mean up direction of cameras below which they have none in common.
MIN_COMMON_UP = 0.5


@dataclass(frozen=True)
class SkyConfig:
    """Which Gaussians are sky."""

    distance: float = 5.0
    """Distance from the cameras from which Gaussians are sky, in typical distances: the median over
    the cameras of the median depth of what they see."""
    elevation_deg: float = 3.0
    """Angle above the horizon from which they are."""
    radius: float = 10.0
    """Radius of a sphere for the sky, in typical distances; more if the rest is larger."""


def mean_up(cameras: list[Cameras]) -> Float[Tensor, "3"]:
    """Return the up direction that cameras have in common; InputError if there is none.

    Args:
        cameras: Cameras of one view each, with the axis v.
    """
    up = -torch.cat([camera.viewmats[:, 1, :3] for camera in cameras]).mean(0)
    if float(up.norm()) < MIN_COMMON_UP:
        raise InputError(
            "the cameras have no up direction in common, by which the sky and the ground are told; "
            "pass upright photos with --cameras"
        )
    return torch.nn.functional.normalize(up, dim=0)


def typical_distance(gaussians: Gaussians, cameras: list[Cameras]) -> float:
    """Return the median over the cameras of the median depth of the Gaussians in their images."""
    depths = []
    for camera in cameras:
        pixels, depth = (value[0] for value in camera.project(gaussians.means))
        seen = camera.contains(pixels, depth)
        if seen.any():
            depths.append(depth[seen].median())
    if not depths:
        raise InputError(
            "the cameras see nothing of the scene; pass the capture of this scene with --cameras"
        )
    return float(torch.stack(depths).median())


def find_sky(
    gaussians: Gaussians, cameras: list[Cameras], config: SkyConfig | None = None
) -> Bool[Tensor, "n"]:
    """Return which Gaussians are sky.

    Args:
        gaussians: The scene.
        cameras: Cameras of one view each, with the axis v.
        config: Which Gaussians are sky; has defaults.

    Raises:
        InputError: The cameras see nothing, or have no up direction in common.
    """
    config = config or SkyConfig()
    up = mean_up(cameras)
    away = gaussians.means - _middle(cameras)
    distance = away.norm(dim=1)
    sine = torch.sin(torch.deg2rad(torch.tensor(config.elevation_deg)))
    far: Tensor = distance > config.distance * typical_distance(gaussians, cameras)
    above: Tensor = away @ up > sine * distance
    return far & above


def onto_sphere(
    gaussians: Gaussians,
    sky: Bool[Tensor, "n"],
    cameras: list[Cameras],
    config: SkyConfig | None = None,
) -> Gaussians:
    """Move the sky onto a sphere around the cameras, behind everything else.

    Gaussians keep their directions and apparent sizes, as seen from the middle of the cameras.

    Args:
        gaussians: The scene.
        sky: Which Gaussians are sky.
        cameras: Cameras of one view each, with the axis v.
        config: How large the sphere is; has defaults.
    """
    config = config or SkyConfig()
    middle = _middle(cameras)
    away = gaussians.means - middle
    distance = away.norm(dim=1).clamp_min(1e-12)
    radius = config.radius * typical_distance(gaussians, cameras)
    if (~sky).any():
        radius = max(radius, 1.1 * float(distance[~sky].max()))
    factor = torch.where(sky, radius / distance, 1.0)[:, None]
    # Others keep their exact values.
    means = torch.where(sky[:, None], middle + factor * away, gaussians.means)
    return replace(gaussians, means=means, scales=factor * gaussians.scales)


def _middle(cameras: list[Cameras]) -> Float[Tensor, "3"]:
    return torch.cat([camera.centers for camera in cameras]).mean(0)
