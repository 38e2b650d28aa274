"""Depth of the surfaces that cameras see, with confidences: the median along each ray.

The rasterizer composites the mean depth, which lies between two surfaces at their edges and behind
faint Gaussians. So Gaussians are sorted into bins of inverse depth, each bin is composited as a
channel of its own, and the median is in the bin where half of the weight is reached.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.types import Progress
from render import Cameras, Gaussians, RasterizeSettings, rasterize
from render.quaternions import quats_to_rotmats

# Number of bins, and the quantiles of the depths that they span.
BINS, QUANTILE = 32, 0.01
# Largest number of Gaussians that the quantiles are computed from.
MAX_SAMPLES = 50_000
# Opacity of a pixel below which there is no surface.
MIN_ALPHA = 0.5


@dataclass(frozen=True)
class DepthMap:
    """What one camera sees."""

    camera: Cameras
    """One camera, with the axis v."""
    depth: Float[Tensor, "h w"]
    """z of the surface (world units); 0 where there is none."""
    confidence: Float[Tensor, "h w"]
    """Fraction of the light that comes from near this depth, 0 to 1; 0 where there is no surface,
    and negative where the ray is free as far as the scene reaches."""
    rgb: Float[Tensor, "3 h w"]
    """Colours, display sRGB."""


def render_depth_maps(
    gaussians: Gaussians, cameras: list[Cameras], antialiased: bool, progress: Progress
) -> list[DepthMap]:
    """Render the surfaces that cameras see.

    Args:
        gaussians: The scene.
        cameras: Cameras of one view each, with the axis v.
        antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
        progress: Receives the completed fraction.
    """
    settings = RasterizeSettings(antialiased=antialiased)
    maps = []
    for index, camera in enumerate(cameras):
        maps.append(_depth_map(gaussians, camera, settings))
        progress((index + 1) / len(cameras))
    return maps


def _depth_map(gaussians: Gaussians, camera: Cameras, settings: RasterizeSettings) -> DepthMap:
    rendered = rasterize(gaussians, camera, settings=replace(settings, render_mode="RGB"))
    bins = _Bins.of(camera.project(gaussians.means)[1][0])
    weight, planes = _composited(gaussians, camera, bins, settings)
    alpha = weight.sum(0)
    median = (weight.cumsum(0) < 0.5 * alpha).sum(0, keepdim=True).clamp_max(BINS - 1)
    # The neighbours as well: a surface may be split between two bins.
    near = torch.cat([(median + offset).clamp(0, BINS - 1) for offset in (-1, 0, 1)])
    repeated = torch.stack([near[0] == near[1], near[1] < 0, near[2] == near[1]])
    part = weight.gather(0, near).masked_fill(repeated, 0).sum(0)
    of_all = near[:, None].expand(-1, 3, -1, -1)
    plane = planes.gather(0, of_all).masked_fill(repeated[:, None], 0).sum(0)
    plane /= part.clamp_min(1e-6)
    directions = camera.rays()[1][0] @ camera.viewmats[0, :3, :3].T
    inverse = (plane.permute(1, 2, 0) * directions).sum(-1)
    # A Gaussian seen from its edge meets rays far away from its centre.
    middle = bins.far + bins.step * (BINS - 1 - median[0])
    inverse = inverse.clamp(middle - 1.5 * bins.step, middle + 1.5 * bins.step)
    solid = alpha >= MIN_ALPHA
    depth = solid / inverse.clamp_min(1e-9)
    confidence = torch.where(solid, part, torch.where(alpha < 1 - MIN_ALPHA, alpha - 1, 0))
    return DepthMap(camera, depth, confidence, rendered.rgb[0].clamp(0, 1))


@dataclass(frozen=True)
class _Bins:
    """Bins of inverse depth."""

    far: float
    """Inverse depth of the last bin."""
    step: float
    order: Int[Tensor, " n"]
    """Bin of each Gaussian, from near to far."""

    @staticmethod
    def of(z: Float[Tensor, " n"]) -> "_Bins":
        ahead = z[z > 0]
        if len(ahead) == 0:
            ahead = z.new_ones(1)
        sample = 1 / ahead[:: 1 + len(ahead) // MAX_SAMPLES]
        far, near = (float(sample.quantile(q)) for q in (QUANTILE, 1 - QUANTILE))
        step = max(near - far, 1e-12) / (BINS - 1)
        bins = ((1 / z.clamp_min(1e-12) - far) / step).clamp(0, BINS - 1)
        return _Bins(far, step, BINS - 1 - bins.round().long())


def _composited(
    gaussians: Gaussians, camera: Cameras, bins: _Bins, settings: RasterizeSettings
) -> tuple[Float[Tensor, "k h w"], Float[Tensor, "k 3 h w"]]:
    """Composite each bin: the weights, and the weights times the planes of the Gaussians."""
    weights = torch.nn.functional.one_hot(bins.order, BINS).to(gaussians.means)
    planes = weights[:, :, None] * _planes(gaussians, camera)[:, None]
    channels = torch.cat([weights, planes.flatten(1)], 1)
    mode = replace(settings, render_mode="RGB")
    found = rasterize(gaussians, camera, settings=mode, channels=channels).rgb[0]
    return found[:BINS], found[BINS:].unflatten(0, (BINS, 3))


def _planes(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "n 3"]:
    """Compute the plane in which rays meet each Gaussian most, in the camera's frame.

    Its dot product with the direction of a ray is 1 / z of that point, which is linear in the pixel
    (RaDe-GS, Zhang et al. 2024, section 3). z of the centres would be too near: of Gaussians that
    overlap in an image of a curved surface, the foremost hides the others.
    """
    rotmat, translation = camera.viewmats[0, :3, :3], camera.viewmats[0, :3, 3]
    centers = gaussians.means @ rotmat.T + translation
    axes = rotmat @ quats_to_rotmats(gaussians.quats)
    inside = (axes.mT @ centers[..., None])[..., 0] / gaussians.scales.square()
    normals = (axes @ inside[..., None])[..., 0]
    return normals / (normals * centers).sum(1, keepdim=True).clamp_min(1e-12)
