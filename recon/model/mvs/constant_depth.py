"""The model `constant-depth`, a baseline: every view is a flat image at one depth."""

from dataclasses import dataclass, field

import torch

from recon.model.mvs.depth_range import estimate_depth_range
from recon.model.mvs.pixel_gaussians import PixelGaussianConfig, pixel_gaussians
from recon.types import Prediction, Progress, Views


@dataclass(frozen=True)
class ConstantDepth:
    """A lower bound that any other method must exceed.

    The depth is each view's median from the coarse plane sweep that also finds the depth range,
    which is close to the best single depth.
    """

    gaussians: PixelGaussianConfig = field(default_factory=PixelGaussianConfig)

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """Create one Gaussian per pixel, all of a view at its median depth."""
        median = estimate_depth_range(views).median
        depth = median[:, None, None].expand(len(views), *views.images.shape[-2:])
        keep = torch.ones_like(depth, dtype=torch.bool)
        gaussians, source_view = pixel_gaussians(views, depth, keep, self.gaussians)
        progress(1.0)
        return Prediction(gaussians, source_view, depth, torch.zeros_like(depth))
