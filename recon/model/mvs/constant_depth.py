"""A baseline: every photo is a flat picture at one depth."""

from dataclasses import dataclass, field

import torch

from recon.model.mvs.depth_range import depth_range_of
from recon.model.mvs.pixel_gaussians import PixelGaussianConfig, pixel_gaussians
from recon.types import Prediction, Progress, Views


@dataclass(frozen=True)
class ConstantDepth:
    """The model `constant-depth`: what a method must beat to be worth anything.

    The depth is each view's median from the same coarse sweep that gives the plane
    sweep its range, which is close to the best single depth.
    """

    gaussians: PixelGaussianConfig = field(default_factory=PixelGaussianConfig)

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """One Gaussian per pixel, all of a view at its median depth."""
        median = depth_range_of(views).median
        depth = median[:, None, None].expand(len(views), *views.images.shape[-2:])
        keep = torch.ones_like(depth, dtype=torch.bool)
        gaussians, source_view = pixel_gaussians(views, depth, keep, self.gaussians)
        progress(1.0)
        return Prediction(gaussians, source_view, depth, torch.zeros_like(depth))
