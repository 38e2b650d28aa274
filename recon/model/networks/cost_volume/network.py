"""The network `cost-volume`: its stages, from coarse to fine."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.error_feedback import ErrorFeedback
from recon.model.heads import activate
from recon.model.layers.precision import full_precision
from recon.model.layers.pyramid import MULTIPLE_PX, Pyramid
from recon.model.mvs.source_views import batch_sources
from recon.model.networks.cost_volume.config import CostVolumeConfig
from recon.model.networks.cost_volume.decoder import Decoder
from recon.model.networks.cost_volume.depth_distribution import DepthDistribution, DepthHypotheses
from recon.model.networks.cost_volume.matching import NUM_PHOTOMETRIC_CHANNELS, FeatureLevel
from recon.model.networks.cost_volume.multi_view_consistency import (
    MultiViewConsistency,
    opacity_weight,
)
from recon.model.networks.cost_volume.stage import CostVolumeStage
from render import Cameras

COARSE_PX, FINE_PX = 4, 2
# The fine stage searches this many spreads around the coarse depth, and at least this many of the
# coarse stage's plane distances.
SEARCH_SPREADS, SEARCH_PLANES = 2.0, 1.5
# Smallest width of the depth prior from context, as a fraction of the range.
MIN_PRIOR = 0.05


@dataclass(frozen=True)
class _Estimate:
    """Depth of all views, and what the decoder needs to know about it."""

    half: Float[Tensor, "n c h w"]
    """Feature maps at 1/2 of the padded images."""
    coarse: DepthDistribution
    """Depth before the fine stage, at 1/4."""
    distributions: list[tuple[int, DepthDistribution]]
    """Depth after every round, from coarse to fine, each with the factor to the images' size."""
    channels: Float[Tensor, "n k h w"]
    """Consistency of the final depth, then the evidence for it, at 1/2."""


class CostVolumeNetwork(nn.Module):
    """Maps a normalised batch of any number of views and any image size to Gaussians."""

    runs_in_bf16 = True
    """It is as good in bf16 (docs/experiments/performance.md), and quicker."""

    def __init__(self, config: CostVolumeConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, _ = config.pyramid.channels
        self.context = Pyramid(config.pyramid, config.recompute)
        self.prior = nn.Conv2d(quarter, 2, 1)
        self.coarse = CostVolumeStage(quarter, config, with_consistency=False)
        self.fine = CostVolumeStage(half, config, with_consistency=True)
        evidence = config.groups + NUM_PHOTOMETRIC_CHANNELS + 12 if config.evidence else 0
        self.decoder = Decoder(half, evidence, 2 * half, config.head.channels)
        if config.feedback_rounds > 0:
            self.feedback = ErrorFeedback(config.head, half)

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Predict Gaussians in the frame of the batch's cameras."""
        (scenes, views), (height, width) = batch.images.shape[:2], batch.images.shape[-2:]
        estimate = self._estimate_depth(batch)
        fine = estimate.distributions[-1][1]
        channels = estimate.channels
        raw = self.decoder(estimate.half, estimate.coarse, fine, channels)[:, :height, :width]
        weight = interpolate(opacity_weight(channels)[:, None], scale_factor=FINE_PX)
        weight = weight[:, 0, :height, :width]
        raw, weight = (t.unflatten(0, (scenes, views)) for t in (raw, weight))
        raws = [raw]
        if self.config.feedback_rounds > 0:
            raws += self.feedback(raw, batch, weight, estimate.half, self.config.feedback_rounds)
        if not torch.is_grad_enabled():  # only a loss reads the others
            raws = raws[-1:]
        *earlier, output = (activate(each, batch, self.config.head, weight) for each in raws)
        output = replace(output, intermediate_gaussians=tuple(o.gaussians for o in earlier))
        return _with_stage_depths(output, estimate.distributions, batch)

    def _estimate_depth(self, batch: ViewBatch) -> _Estimate:
        """Run the stages."""
        config, views, size = self.config, batch.images.shape[1], batch.images.shape[-2:]
        batch = batch.padded(MULTIPLE_PX)
        images, cameras = batch.images.flatten(0, 1), batch.cameras.flatten()
        low, high = (1 / t.flatten() for t in (batch.far, batch.near))
        half, quarter = self.context(images, cameras, views)
        sources = batch_sources(batch.cameras, batch.middle_depth, config.sources)
        if max(size) > config.direct_px:
            smaller = self._estimate_depth(batch.halved()).distributions
            # The finest distribution at half the size is at a quarter of this one.
            distributions = [(2 * factor, each) for factor, each in smaller]
            before = distributions[-1][1].cropped(*quarter.shape[-2:])
        else:
            level = _level(images, quarter, cameras, sources, COARSE_PX)
            before = self._coarse_stage(level, low, high)
            distributions = [(COARSE_PX, before)]
        level = _level(images, half, cameras, sources, FINE_PX)
        coarse, before = before, before.upsampled(COARSE_PX // FINE_PX)
        for index in range(config.fine_rounds):
            before = self._fine_stage(level, before, low, high, index)
            distributions.append((FINE_PX, before))
        disparity = DepthHypotheses(before.fraction[:, None], low, high).disparity
        consistency = MultiViewConsistency(before, low, high, level.cameras, sources)
        every_view = torch.arange(len(images), device=images.device)
        channels = [consistency.evaluate(every_view, disparity)[:, :, 0]]
        if config.evidence:
            matched = replace(level, feature_maps=self.fine.matched(half)).normalised(config.groups)
            matching = matched.match(every_view, disparity, config.groups)[:, :, 0]
            channels += [matching, pixel_unshuffle(2 * images - 1, FINE_PX)]
        return _Estimate(half, coarse, distributions, torch.cat(channels, 1))

    def _coarse_stage(
        self, level: FeatureLevel, low: Float[Tensor, " n"], high: Float[Tensor, " n"]
    ) -> DepthDistribution:
        """Test planes over the whole range, with a depth prior from context."""
        count, config = len(level.images), self.config
        fraction = torch.linspace(0, 1, config.planes).to(low)[None, :, None, None]
        hypotheses = DepthHypotheses(fraction.expand(count, -1, 1, 1), low, high)
        mean, width = self.prior(level.feature_maps).float().split(1, 1)
        width = MIN_PRIOR + torch.nn.functional.softplus(width)
        prior = -0.5 * ((fraction - torch.sigmoid(mean)) / width).square()
        distribution: DepthDistribution = self.coarse(
            level, hypotheses, prior, None, config.recompute
        )
        return distribution

    def _fine_stage(
        self,
        level: FeatureLevel,
        before: DepthDistribution,
        low: Float[Tensor, " n"],
        high: Float[Tensor, " n"],
        index: int,
    ) -> DepthDistribution:
        """Test hypotheses around a depth, within its spread (Cheng et al. 2020, eq. 5)."""
        config = self.config
        least = SEARCH_PLANES / (config.planes - 1) / 2**index
        center, spread = before.fraction[:, None], before.spread.detach()[:, None]
        radius = (SEARCH_SPREADS * spread).clamp_min(least)
        offsets = torch.linspace(-1, 1, config.fine_planes).to(low)[None, :, None, None]
        fraction = (center + radius * offsets).clamp(0, 1)
        hypotheses = DepthHypotheses(fraction, low, high)
        consistency = MultiViewConsistency(before, low, high, level.cameras, level.sources)
        distribution: DepthDistribution = self.fine(
            level, hypotheses, None, consistency, config.recompute
        )
        return distribution


def _level(
    images: Float[Tensor, "n 3 h w"],
    feature_maps: Float[Tensor, "n c hs ws"],
    cameras: Cameras,
    sources: Int[Tensor, "n s"],
    factor: int,
) -> FeatureLevel:
    small = torch.nn.functional.avg_pool2d(images, factor)
    height, width = small.shape[-2:]
    return FeatureLevel(small, feature_maps, cameras.resized(width, height), sources)


@full_precision
def _with_stage_depths(
    output: NetworkOutput, distributions: list[tuple[int, DepthDistribution]], batch: ViewBatch
) -> NetworkOutput:
    """Add the stages' own depths and the last one's confidence, at the size of the images."""
    (scenes, views), (height, width) = output.depth.shape[:2], output.depth.shape[2:]

    def upsampled(values: Float[Tensor, "n h w"], factor: int) -> Float[Tensor, "b v hf wf"]:
        large = interpolate(values[:, None], scale_factor=factor, mode="bilinear")
        by_scene: Tensor = large[:, 0, :height, :width].unflatten(0, (scenes, views))
        return by_scene

    far, near = (1 / t[..., None, None] for t in (batch.far, batch.near))
    depths = tuple(
        1 / (far + upsampled(distribution.fraction, factor) * (near - far))
        for factor, distribution in distributions
    )
    confidence = upsampled(distributions[-1][1].confidence, FINE_PX).clamp(0, 1)
    return replace(output, confidence=confidence, intermediate_depths=depths)
