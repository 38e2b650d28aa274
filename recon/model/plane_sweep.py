"""The classical model: multi-view ZNCC plane sweep, no learned part.

Collins 1996, "A space-sweep approach to true multi-image matching", with semi-global
aggregation, a check between the views and a fill that leaves no pixel without depth.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from recon.capture.types import Views
from recon.model.consistency import compare_depths, consistency_costs
from recon.model.depth_range import DepthRange, estimate_depth_range, range_from_bounds
from recon.model.fill import fill_disparity
from recon.model.pixel_gaussians import PixelGaussianConfig, pixel_gaussians
from recon.model.sgm import aggregate, best_plane
from recon.model.sources import select_sources
from recon.model.types import Prediction, Progress
from recon.model.volume import cost_volume, disparity_planes
from recon.model.warp import Warp, sample
from recon.model.zncc import box_mean
from render import Cameras


@dataclass(frozen=True)
class PlaneSweepConfig:
    """Dials of the classical sweep."""

    sources: int = 4
    """Other views that each view is matched with, at most."""
    sweep_scale: float = 0.5
    """Size of the pictures that are swept, relative to the views."""
    min_planes: int = 48
    """Fewest depth planes."""
    max_planes: int = 160
    """Most depth planes; between, one per pixel of parallax."""
    radii: tuple[int, ...] = (1, 3)
    """Half window sizes of the correlation (px of the swept pictures)."""
    small_step: float = 0.03
    """Cost of a change of one plane between neighbours."""
    large_step: float = 0.3
    """Cost of a depth jump between neighbours of like colour."""
    smoothness: float = 0.3
    """Pull of the fill towards neighbours of like colour."""
    unmatched: float = 0.02
    """Confidence of pixels that no other view confirms."""
    rounds: int = 2
    """Sweeps."""
    geometric: float = 0.2
    """Weight."""
    mismatch: float = 0.15
    """Weight."""
    carve: bool = True
    """Leave out."""
    gaussians: PixelGaussianConfig = field(default_factory=PixelGaussianConfig)


@dataclass(frozen=True)
class PlaneSweep:
    """The model `plane-sweep`."""

    config: PlaneSweepConfig = field(default_factory=PlaneSweepConfig)

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """Depth of every pixel, then a Gaussian for it."""
        small = shrink(views, self.config.sweep_scale)
        if views.depth_bounds is None:
            depth_range = estimate_depth_range(small.images, small.cameras)
        else:
            depth_range = range_from_bounds(views.depth_bounds)
        progress(0.1)
        disparity, confidence, opacity = self._disparity(small, depth_range, progress)
        size = views.images.shape[-2:]
        disparity = interpolate(disparity[:, None], size, mode="bilinear")[:, 0]
        confidence = interpolate(confidence[:, None], size, mode="bilinear")[:, 0]
        opacity = (interpolate(opacity[:, None], size, mode='bilinear')[:, 0]>.5).float()
        depth = 1 / disparity
        gaussians = pixel_gaussians(views, depth, opacity, self.config.gaussians)
        progress(1.0)
        return Prediction(gaussians, depth, confidence)

    def _disparity(
        self, views: Views, depth_range: DepthRange, progress: Progress
    ) -> tuple[Float[Tensor, "v h w"], Float[Tensor, "v h w"]]:
        config, count = self.config, len(views)
        low, high = 1 / depth_range.far, 1 / depth_range.near
        sources = select_sources(views.cameras, depth_range.median, config.sources)
        planes = self._plane_count(views.cameras, sources, low, high)
        volume = []
        for v in range(count):
            levels = disparity_planes(float(low[v]), float(high[v]), planes).to(low)
            volume.append(
                cost_volume(views.images, views.cameras, v, sources[v], levels, config.radii)
            )
            progress(0.1 + 0.5 * (v + 1) / count)
        volume = torch.stack(volume)
        step = (high - low) / (planes - 1)
        levels = low[:, None] + torch.arange(planes, device=low.device) * step[:, None]
        confidence = None
        for _ in range(config.rounds):
            if confidence is not None:
                sure = (confidence >= 1).float()
                others = [[s for s in range(count) if s != v] for v in range(count)]
                votes = [
                    consistency_costs(views.cameras, disparity, sure, 1.5 * step, v, others[v], levels[v])
                    for v in range(count)
                ]
                costs = volume + config.geometric * torch.stack(votes)
            else:
                costs = volume
            costs = aggregate(costs, views.images, config.small_step, config.large_step)
            position, _ = best_plane(costs)
            disparity = low[:, None, None] + position * step[:, None, None]
            confidence = self._confirmed(views.cameras, disparity, 1.5 * step, sources)
        progress(0.8)
        filled = fill_disparity(
            disparity / high[:, None, None], confidence, views.images, config.smoothness
        )
        filled = (filled * high[:, None, None]).clamp(low[:, None, None], high[:, None, None])
        self_opacity = torch.ones_like(filled)
        if config.carve:
            blurred = box_mean(views.images, 1)
            for v in range(count):
                for s in range(count):
                    if s != v:
                        verdict = compare_depths(views.cameras, filled, 1.5 * step, v, s, None)
                        pixels, ratio = Warp.between(views.cameras, v, s).pixels(filled[v])
                        other = sample(blurred[s][None], pixels[None])[0]
                        sure = sample((confidence[s] >= 1).float()[None, None], pixels[None], mode="nearest")[0, 0] > 0.5
                        mismatch = (other - blurred[v]).abs().amax(0) > config.mismatch
                        bad = verdict.in_front & (sure | mismatch) & (confidence[v] < 1)
                        self_opacity[v][bad] = 0
        return filled, confidence, self_opacity

    def _plane_count(
        self,
        cameras: Cameras,
        sources: list[list[int]],
        low: Float[Tensor, "v"],
        high: Float[Tensor, "v"],
    ) -> int:
        """One plane per pixel of parallax at the picture's middle, within the limits."""
        longest = 0.0
        middle = (cameras.height // 2, cameras.width // 2)
        for v, chosen in enumerate(sources):
            for s in chosen:
                pixels, ratio = Warp.between(cameras, v, s).pixels(
                    torch.stack([low[v], high[v]]).reshape(2, 1, 1)
                )
                if (ratio[(slice(None), *middle)] > 0).all():
                    span = (pixels[(1, *middle)] - pixels[(0, *middle)]).norm()
                    longest = max(longest, float(span))
        return min(max(math.ceil(longest), self.config.min_planes), self.config.max_planes)

    def _confirmed(
        self,
        cameras: Cameras,
        disparity: Float[Tensor, "v h w"],
        tolerance: Float[Tensor, "v"],
        sources: list[list[int]],
    ) -> Float[Tensor, "v h w"]:
        """1 where another view agrees, 0 where one looks through the point, else little."""
        confidence = torch.full_like(disparity, self.config.unmatched)
        for v, chosen in enumerate(sources):
            verdicts = [compare_depths(cameras, disparity, tolerance, v, s) for s in chosen]
            agrees = torch.stack([verdict.agrees for verdict in verdicts]).any(0)
            in_front = torch.stack([verdict.in_front for verdict in verdicts]).any(0)
            confidence[v][in_front] = 0
            confidence[v][agrees] = 1
        return confidence


def shrink(views: Views, scale: float) -> Views:
    """The views at another size."""
    height, width = (max(round(s * scale), 8) for s in views.images.shape[-2:])
    size = (height, width)
    return Views(
        interpolate(views.images, size, mode="area"),
        interpolate(views.masks, size, mode="area"),
        interpolate(views.valid, size, mode="area"),
        views.cameras.resized(width, height),
        views.names,
        views.depth_bounds,
    )
