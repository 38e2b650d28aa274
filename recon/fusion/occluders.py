"""What masks leave out: the background of an object, or something in front of the scene.

A masked pixel of the background is to be empty. One of a passer-by says nothing about the scene,
which others may show there: were it to be empty too, walls behind would get dark and transparent.
"""

from dataclasses import replace

import torch
from torch import Tensor

from recon.fusion.predict import at_resolution
from recon.spread import spread_cameras
from recon.types import PackedViews, Views
from render import Gaussians, rasterize

# Views and their longer side (px) with which it is decided.
MAX_VIEWS, SIDE_PX = 32, 128
# Fraction of the masked pixels that the scene covers from which on masks are of things before it:
# some 0.97 if they are, and at most 0.3 of an object (docs/experiments/backgrounds.md).
MIN_COVERED = 0.65


def without_occluders(views: Views | PackedViews, gaussians: Gaussians) -> Views | PackedViews:
    """Make masked pixels invalid if the masks leave out what stands in front of the scene.

    Args:
        views: All views of a scene.
        gaussians: The scene, predicted without the masked pixels, on the device to render on.
    """
    if views.masks is None or covered_fraction(views, gaussians) < MIN_COVERED:
        return views
    valid = views.masks if views.valid is None else torch.minimum(views.masks, views.valid)
    return replace(views, valid=valid)


@torch.no_grad()
def covered_fraction(views: Views | PackedViews, gaussians: Gaussians) -> float:
    """Return which fraction of the masked pixels a scene covers; 0 where none is masked."""
    chosen = spread_cameras(views.cameras, MAX_VIEWS)
    small = at_resolution(views, chosen, SIDE_PX).to(gaussians.device)
    # Not their product: a border of undistorted photos is a part of both in resized pixels.
    masked = (small.valid - small.masks).clamp_min(0)
    covered: Tensor = masked.new_zeros(())
    for view in range(len(small)):
        if bool(masked[view].any()):
            alpha = rasterize(gaussians, small.cameras[[view]]).alpha[0]
            covered += (masked[view] * alpha).sum()
    return float(covered / masked.sum().clamp_min(1e-6))
