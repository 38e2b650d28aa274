"""What photos say of Gaussians that other views see through.

Some of them stand in for a surface that one photo alone shows. Added to the scene without them,
they bring its renders nearer to the photos. Floaters do not: the surface behind them is right.
"""

import math
from dataclasses import replace
from statistics import median

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.errors import warn
from recon.types import Views
from render import Gaussians, RasterizeSettings, rasterize
from render.sh import C0

# Opacity at which a candidate is added: so little that none hides another.
FAINT = 0.01
# Range of the gain of a photo over its render.
MIN_GAIN, MAX_GAIN = 0.5, 2.0
# Number of photos that are compared with the scene. Squared error of its renders over that of the
# mean colours of the photos: for assets/city and assets/chair, the median is up to 0.2 with cameras
# of the scene, and at least 1.4 with those of the other.
MAX_COMPARED, MAX_ERROR_RATIO, MIN_ERROR = 8, 0.8, 1e-4


@torch.no_grad()
def warn_of_other_scene(scene: Gaussians, views: Views, antialiased: bool = False) -> None:
    """Warn if renders of a scene fit most of its photos no better than their mean colours do.

    Args:
        scene: The scene.
        views: Photos, with cameras in its frame; pixels outside of their masks do not count.
        antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
    """
    settings, errors = RasterizeSettings(antialiased=antialiased), []
    for i in range(0, len(views), max(1, len(views) // MAX_COMPARED)):
        view = views[i : i + 1]
        render = rasterize(scene, view.cameras, settings=settings).rgb[0]
        weight = view.valid[0] * view.masks[0]
        weight = weight.expand_as(render) / weight.sum()
        mean = (weight * view.images[0]).sum((1, 2), keepdim=True)
        error, of_mean = (
            float((weight * (image - view.images[0]).square()).sum() / 3)
            for image in (render * _gain(render, view), mean)
        )
        if error > 0:  # not without valid pixels
            errors.append((error / max(of_mean, MIN_ERROR), error))
    if errors and median(ratio for ratio, _ in errors) > MAX_ERROR_RATIO:
        psnr = -10 * math.log10(median(error for _, error in errors))
        warn(
            f"the photos do not look like this scene (PSNR {psnr:.0f} dB, hardly better than their "
            "mean colours); are they and their cameras of this scene?"
        )


def wanted_by_photos(
    scene: Gaussians,
    candidates: Gaussians,
    views: Views,
    limit: float,
    antialiased: bool = False,
) -> Bool[Tensor, " n"]:
    """Return which candidates lower the squared error of renders when they are added to a scene.

    A Gaussian of opacity o in front of everything, with falloff w and colour c, changes a pixel of
    colour B by o w (c - B). The squared error changes by twice that times the residual, which is o
    times its derivative at no opacity, and by the square of it, in which w is half its maximum in
    the mean: what differs from all that it hides has a large one.

    Args:
        scene: The scene without the candidates.
        candidates: Gaussians to decide on.
        views: Photos, with cameras in the frame of the scene.
        limit: By how much a candidate lowers the error at least, summed over pixels and colour
            channels of all views.
        antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
    """
    settings = RasterizeSettings(antialiased=antialiased)
    faint = torch.full((len(candidates),), FAINT)
    both = Gaussians.cat([scene, replace(candidates, opacities=faint)])
    colors = 0.5 + C0 * candidates.sh[:, 0]
    opacity, change = candidates.opacities, torch.zeros(len(candidates))
    for i in range(len(views)):
        view = views[i : i + 1]
        derivative, behind = _derivative(both, len(scene), view, settings)
        area, first, second = _sums_behind(both, len(scene), view, behind, settings)
        square = (colors.square().sum(1, keepdim=True) * area + second)[:, 0]
        square = square - 2 * (colors * first).sum(1)
        change += opacity * derivative + 0.5 * opacity.square() * square
    return change < -limit


def _derivative(
    both: Gaussians, start: int, view: Views, settings: RasterizeSettings
) -> tuple[Float[Tensor, " n"], Float[Tensor, "3 h w"]]:
    """Return the derivative of the squared error by opacities from `start` on, and the render."""
    added = both.opacities[start:].clone().requires_grad_()
    with torch.enable_grad():
        shown = replace(both, opacities=torch.cat([both.opacities[:start], added]))
        render = rasterize(shown, view.cameras, settings=settings).rgb[0]
        exposed = render * _gain(render.detach(), view)
        error = ((exposed - view.images[0]).square() * view.valid[0]).sum()
        (derivative,) = torch.autograd.grad(error, added)
    return derivative, exposed.detach()


def _sums_behind(
    both: Gaussians,
    start: int,
    view: Views,
    behind: Float[Tensor, "3 h w"],
    settings: RasterizeSettings,
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 3"], Float[Tensor, "n 1"]]:
    """Return sums over pixels of 1, the colour behind and its square, weighted by the falloff.

    A render of features is linear in them: its derivative by them is a sum of weights.
    """
    features = torch.zeros(len(both), 5, requires_grad=True)
    fields = torch.cat([torch.ones_like(behind[:1]), behind, behind.square().sum(0)[None]])
    with torch.enable_grad():
        weights = rasterize(both, view.cameras, channels=features, settings=settings).rgb[0]
        (sums,) = torch.autograd.grad((weights * fields * view.valid[0]).sum(), features)
    area, first, second = (sums[start:] / FAINT).split([1, 3, 1], 1)
    return area, first, second


def _gain(render: Float[Tensor, "3 h w"], view: Views) -> Float[Tensor, "3 1 1"]:
    """Return the best gain of a render, a colour channel: photos have exposures of their own."""
    valid = view.valid[0]
    together = (render * view.images[0] * valid).sum((1, 2), keepdim=True)
    alone = (render.square() * valid).sum((1, 2), keepdim=True)
    return (together / alone.clamp_min(1e-9)).clamp(MIN_GAIN, MAX_GAIN)
