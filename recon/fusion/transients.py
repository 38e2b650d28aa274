"""Transients: what only one photo shows where others see something else, such as passers-by.

Every pixel of a photo is projected into the others at the depth of the predicted scene. Where most
of those that see the point have no such colour nearby, the photo shows something that was not
there for them. Depth that is wrong by a little does not matter: a colour counts as the same if it
is between those around the pixel (the box of colours of temporal antialiasing, Karis 2014, "High
quality temporal supersampling").
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from recon.errors import ConfigError
from recon.fusion.predict import at_resolution
from recon.types import PackedViews, Prediction, Progress, Views
from render import Cameras, Gaussians, rasterize

# Photos that a transient needs at least: fewer cannot outvote one.
MIN_VIEWS = 4
# The smallest depth that is tried, relative to this quantile of all depths.
NEAR_RATIO, NEAR_QUANTILE = 0.7, 0.02
MAX_SAMPLES = 100_000
# Fraction of the pixels around one that others must see.
MIN_KNOWN = 0.3


@dataclass(frozen=True)
class TransientConfig:
    """What counts as a transient.

    The values were chosen by experiment (docs/experiments/transients.md).
    """

    resolution: int = 128
    """Length of the long side at which photos are compared (px)."""
    max_others: int = 16
    """Maximum number of other photos that a photo is compared with: the nearest ones."""
    min_others: int = 3
    """Number of other photos that must see a point, or nothing is known about it."""
    reach: int = 2
    """Distance up to which a colour may be elsewhere in another photo (px)."""
    quantile: float = 0.2
    """Fraction of the other photos that may agree with a transient nevertheless."""
    difference: float = 0.05
    """Mean difference of colours around a pixel (of white) above which it belongs to a transient
    if it is connected to one."""
    certain: float = 0.12
    """The same, which at least one pixel of a transient exceeds."""
    depths: int = 16
    """Number of depths from the surface to the nearest one at which others may agree instead."""
    agreement: float = 0.4
    """Fraction of the other photos that must agree there."""
    min_area: float = 0.002
    """Smallest area of a transient, relative to the photo."""
    occlusion: float = 0.1
    """Relative difference of depths above which another photo sees something in front."""


def require_enough(count: int) -> None:
    """Raise a ConfigError if this number of photos cannot tell which of them shows a transient."""
    if count < MIN_VIEWS:
        raise ConfigError(
            f"transients need at least {MIN_VIEWS} photos, found {count}: fewer cannot tell which "
            "of them shows something that passes by; omit it, or add photos",
            "transients",
        )


@torch.no_grad()
def find_transients(
    gaussians: Gaussians,
    views: Views | PackedViews,
    config: TransientConfig | None = None,
    progress: Progress = lambda done: None,
) -> Bool[Tensor, "v h w"]:
    """Return which pixels of the views show transients, at a lower resolution.

    Args:
        gaussians: Scene that has the depth of the views; it may show the transients.
        views: The views, on the device to render on.
        config: What counts as a transient; has defaults.
        progress: Called with the completed fraction.

    Raises:
        ConfigError: There are fewer than four views.
    """
    config = config or TransientConfig()
    require_enough(len(views))
    small = at_resolution(views, range(len(views)), config.resolution)
    depth = []
    for view in range(len(small)):
        output = rasterize(gaussians, small.cameras[[view]])
        seen = output.alpha[0, 0] * small.masks[view, 0] > 0.5
        depth.append(torch.where(seen, output.expected_depth[0, 0], torch.inf))
        progress((view + 1) / len(small))
    photos = _Photos.of(small, torch.stack(depth), config.reach)
    return torch.stack([_transients(view, photos, config) for view in range(len(small))])


def without_transients(
    prediction: Prediction, cameras: Cameras, transients: Bool[Tensor, "v h w"]
) -> Prediction:
    """Remove the Gaussians that were predicted from pixels that show transients.

    Args:
        prediction: Prediction whose source views are those of the cameras.
        cameras: Cameras of all views.
        transients: Which pixels of the views show transients, at any resolution.
    """
    height, width = transients.shape[1:]
    small = cameras.resized(width, height)
    keep = torch.ones_like(prediction.source_view, dtype=torch.bool)
    for view in transients.flatten(1).any(1).nonzero()[:, 0].tolist():
        own = (prediction.source_view == view).nonzero()[:, 0]
        camera = small[view]
        pixels, depth = camera.project(prediction.gaussians.means[own])
        inside = small.contains(pixels, depth)
        column, row = pixels[inside].long().unbind(-1)
        keep[own[inside]] = ~transients[view, row, column]
    return replace(
        prediction,
        gaussians=prediction.gaussians[keep],
        source_view=prediction.source_view[keep],
    )


@dataclass(frozen=True)
class _Photos:
    """Photos at a low resolution, with the depth of the scene."""

    cameras: Cameras
    depth: Float[Tensor, "v h w"]
    """Infinite where there is no surface."""
    near: float
    """Smallest depth that is tried."""
    colors: Float[Tensor, "v 3 h w"]
    low: Float[Tensor, "v 3 h w"]
    """Lowest colours around each pixel."""
    high: Float[Tensor, "v 3 h w"]
    """Highest colours around each pixel."""

    @staticmethod
    def of(views: Views, depth: Float[Tensor, "v h w"], reach: int) -> "_Photos":
        solid = depth[depth.isfinite()]
        solid = solid[:: 1 + len(solid) // MAX_SAMPLES]
        near = float(torch.quantile(solid, NEAR_QUANTILE)) if len(solid) else 1.0
        colors = _blurred(views.images, 3)
        low, high = -_highest(-colors, reach), _highest(colors, reach)
        return _Photos(views.cameras, depth, NEAR_RATIO * near, colors, low, high)


def _transients(view: int, photos: _Photos, config: TransientConfig) -> Bool[Tensor, "h w"]:
    """Return which pixels of a view show transients.

    What the scene lacks or has at a wrong depth also disagrees. Others show it somewhere in front
    of the surface, where they never show what passes by.
    """
    depth = photos.depth[view]
    first = _disagreement(view, depth.isfinite(), depth, photos, config, config.quantile)
    found = _regions(first.nan_to_num(0), config)
    if not found.any():
        return found
    asked = found & depth.isfinite()
    best = torch.full_like(depth, torch.inf)
    for fraction in torch.linspace(0, 1, config.depths).tolist():
        tried = 1 / (fraction / photos.near + (1 - fraction) / depth)
        tried = torch.where(depth < photos.near, depth, tried)
        score = _disagreement(view, asked, tried, photos, config, config.agreement)
        best = torch.fmin(best, score)
    return _regions(torch.where(asked & best.isfinite(), best, 0), config)


def _disagreement(
    view: int,
    asked: Bool[Tensor, "h w"],
    depth: Float[Tensor, "h w"],
    photos: _Photos,
    config: TransientConfig,
    quantile: float,
) -> Float[Tensor, "h w"]:
    """Measure how far the colours around each pixel are from what most other views show there.

    Args:
        view: Index of the view.
        asked: Pixels to measure; others do not count.
        depth: Depth of all pixels of the view.
        photos: All photos.
        config: What counts as a transient.
        quantile: Fraction of the other views that need not differ.

    Returns:
        The mean around each pixel; NaN where too few others see it.
    """
    cameras, (height, width) = photos.cameras, depth.shape
    origins, dirs = (rays[0] for rays in cameras[[view]].rays())
    points = (origins + depth[..., None] * dirs)[asked]
    own = photos.colors[view][:, asked]
    away = (cameras.centers - cameras.centers[view]).norm(dim=-1)
    others = [v for v in away.argsort().tolist() if v != view][: config.max_others]
    found = torch.full((len(others), len(points)), torch.nan, device=points.device)
    for row, other in enumerate(others):
        pixels, z = cameras[other].project(points)
        index = cameras.contains(pixels, z).nonzero()[:, 0]
        column, line = pixels[index].long().unbind(-1)
        pixel = line * width + column
        surface = photos.depth[other].flatten()[pixel]
        visible = surface.isfinite() & (surface > (1 - config.occlusion) * z[index])
        index, pixel = index[visible], pixel[visible]
        low, high = (each[other].flatten(1)[:, pixel] for each in (photos.low, photos.high))
        outside = torch.maximum(low - own[:, index], own[:, index] - high)
        found[row, index] = outside.amax(0).clamp_min(0)
    score = torch.nanquantile(found, quantile, dim=0)
    known = (~found.isnan()).sum(0) >= config.min_others
    sums = torch.zeros(2, height, width, device=points.device)
    sums[:, asked] = torch.stack([torch.where(known, score, 0), known.float()])
    total, count = avg_pool2d(sums[None], 5, 1, 2)[0]
    return torch.where(count > MIN_KNOWN, total / count, torch.nan)


def _regions(score: Float[Tensor, "h w"], config: TransientConfig) -> Bool[Tensor, "h w"]:
    """Return the connected regions that are large and different enough, and a pixel around them."""
    import cv2

    values = score.cpu()
    count, labels = cv2.connectedComponents((values > config.difference).byte().numpy())
    regions = torch.from_numpy(labels).long()
    area = torch.bincount(regions.flatten(), minlength=count) / values.numel()
    most = torch.zeros(count).scatter_reduce_(0, regions.flatten(), values.flatten(), "amax")
    chosen = (area >= config.min_area) & (most > config.certain)
    chosen[0] = False  # what is below the limit
    return _highest(chosen[regions][None, None].float(), 1)[0, 0].to(score.device) > 0


def _blurred(images: Float[Tensor, "v c h w"], side: int) -> Float[Tensor, "v c h w"]:
    return avg_pool2d(images, side, 1, side // 2, count_include_pad=False)


def _highest(images: Float[Tensor, "v c h w"], reach: int) -> Float[Tensor, "v c h w"]:
    return max_pool2d(images, 2 * reach + 1, 1, reach)
