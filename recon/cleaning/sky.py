"""The sky of a scene: Gaussians above the horizon and behind most things, in colours of the sky."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.errors import InputError
from render import Cameras, Gaussians
from render.sh import C0

# Length of the mean up direction of cameras below which they have none in common.
MIN_COMMON_UP = 0.5
# Weights of red, green and blue (ITU-R BT.709).
LUMINANCE = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class SkyConfig:
    """Which Gaussians are sky."""

    distance: float = 1.5
    """Distance from the cameras from which Gaussians in colours of the sky are sky, in typical
    distances: the median over the cameras of the median depth of what they see."""
    far_distance: float = 5.0
    """The same for other bright Gaussians, such as those of an evening sky."""
    min_luminance: float = 0.4
    """Luminance of display colours from which a Gaussian is bright."""
    max_red: float = 0.05
    """Red minus blue up to which a bright colour is that of the sky: blue, grey or white."""
    min_blue: float = 0.15
    """Blue minus red from which a colour is that of a clear sky: it may be half as bright, and two
    thirds as far away."""
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
            "pass cameras of upright photos"
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
            "the cameras see nothing of the scene; pass those of the capture of this scene"
        )
    return float(torch.stack(depths).median())


def find_sky(
    gaussians: Gaussians, cameras: list[Cameras], config: SkyConfig | None = None
) -> Bool[Tensor, " n"]:
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
    relative = distance / typical_distance(gaussians, cameras)
    rgb = (0.5 + C0 * gaussians.sh[:, 0]).clamp(0, 1)
    luminance, red = rgb @ rgb.new_tensor(LUMINANCE), rgb[:, 0] - rgb[:, 2]
    bright = luminance > config.min_luminance
    clear = (red < -config.min_blue) & (luminance > config.min_luminance / 2)
    pale = bright & (red < config.max_red)
    far: Tensor = (
        (clear & (relative > config.distance * 2 / 3))
        | (pale & (relative > config.distance))
        | (bright & (relative > config.far_distance))
    )
    above: Tensor = away @ up > sine * distance
    return far & above


def onto_sphere(
    gaussians: Gaussians,
    sky: Bool[Tensor, " n"],
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
