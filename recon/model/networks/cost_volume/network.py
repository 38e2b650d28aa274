"""The network `cost-volume`: its stages, from coarse to fine."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.heads import activate
from recon.model.layers.precision import full_precision
from recon.model.layers.pyramid import MULTIPLE_PX, Pyramid
from recon.model.mvs.source_views import batch_sources
from recon.model.networks.cost_volume.config import CostVolumeConfig
from recon.model.networks.cost_volume.decoder import Decoder
from recon.model.networks.cost_volume.depth_distribution import DepthDistribution, DepthHypotheses
from recon.model.networks.cost_volume.matching import FeatureLevel
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


class CostVolumeNetwork(nn.Module):
    """Maps a normalised batch of any number of views and any image size to Gaussians."""

    def __init__(self, config: CostVolumeConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, _ = config.pyramid.channels
        self.context = Pyramid(config.pyramid, config.recompute)
        self.prior = nn.Conv2d(quarter, 2, 1)
        matched = 4 * config.groups
        shape = (matched, config.groups, config.volume)
        self.coarse = CostVolumeStage(quarter, *shape, with_consistency=False)
        self.fine = CostVolumeStage(half, *shape, with_consistency=True)
        self.decoder = Decoder(half, 2 * half, config.head.channels)

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Predict Gaussians in the frame of the batch's cameras."""
        (scenes, views), (height, width) = batch.images.shape[:2], batch.images.shape[-2:]
        half, distributions, consistency = self._estimate_depth(batch)
        raw = self.decoder(half, *distributions[-2:], consistency)[:, :height, :width]
        weight = interpolate(opacity_weight(consistency)[:, None], scale_factor=FINE_PX)
        weight = weight[:, 0, :height, :width]
        raw, weight = (t.unflatten(0, (scenes, views)) for t in (raw, weight))
        output = activate(raw, batch, self.config.head, weight)
        return _with_stage_depths(output, distributions, batch)

    def _estimate_depth(
        self, batch: ViewBatch
    ) -> tuple[Float[Tensor, "n c h2 w2"], list[DepthDistribution], Float[Tensor, "n k h2 w2"]]:
        """Run the stages.

        Returns:
            Feature maps at 1/2 of the padded images, the distributions of all stages from coarse
            to fine, and the consistency channels of the last one.
        """
        views, size = batch.images.shape[1], batch.images.shape[-2:]
        batch = batch.padded(MULTIPLE_PX)
        images, cameras = batch.images.flatten(0, 1), batch.cameras.flatten()
        low, high = (1 / t.flatten() for t in (batch.far, batch.near))
        half, quarter = self.context(images, cameras, views)
        sources = batch_sources(batch.cameras, batch.middle_depth, self.config.sources)
        if max(size) > self.config.direct_px:
            _, distributions, _ = self._estimate_depth(batch.halved())
            # The finest distribution at half the size is at a quarter of this one.
            finest = distributions[-1].cropped(*quarter.shape[-2:])
            distributions = [*distributions[:-1], finest]
        else:
            level = _level(images, quarter, cameras, sources, COARSE_PX)
            distributions = [self._coarse_stage(level, low, high)]
        level = _level(images, half, cameras, sources, FINE_PX)
        fine = self._fine_stage(level, distributions[-1], low, high)
        disparity = DepthHypotheses(fine.fraction[:, None], low, high).disparity
        consistency = MultiViewConsistency(fine, low, high, level.cameras, sources)
        every_view = torch.arange(len(images), device=images.device)
        channels = consistency.evaluate(every_view, disparity)[:, :, 0]
        return half, [*distributions, fine], channels

    def _coarse_stage(
        self, level: FeatureLevel, low: Float[Tensor, "n"], high: Float[Tensor, "n"]
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
        coarse: DepthDistribution,
        low: Float[Tensor, "n"],
        high: Float[Tensor, "n"],
    ) -> DepthDistribution:
        """Test hypotheses around the coarse depth, within its spread (Cheng et al. 2020, eq. 5)."""
        config = self.config
        before = coarse.upsampled(2)
        center, spread = before.fraction[:, None], before.spread.detach()[:, None]
        radius = (SEARCH_SPREADS * spread).clamp_min(SEARCH_PLANES / (config.planes - 1))
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
    output: NetworkOutput, distributions: list[DepthDistribution], batch: ViewBatch
) -> NetworkOutput:
    """Add the stages' own depths and the last one's confidence, at the size of the images."""
    (scenes, views), (height, width) = output.depth.shape[:2], output.depth.shape[2:]

    def upsampled(values: Float[Tensor, "n h w"], factor: int) -> Float[Tensor, "b v hf wf"]:
        large = interpolate(values[:, None], scale_factor=factor, mode="bilinear")
        by_scene: Tensor = large[:, 0, :height, :width].unflatten(0, (scenes, views))
        return by_scene

    far, near = (1 / t[..., None, None] for t in (batch.far, batch.near))
    factors = [FINE_PX * 2**steps for steps in reversed(range(len(distributions)))]
    depths = tuple(
        1 / (far + upsampled(distribution.fraction, factor) * (near - far))
        for distribution, factor in zip(distributions, factors, strict=True)
    )
    confidence = upsampled(distributions[-1].confidence, FINE_PX).clamp(0, 1)
    return replace(output, confidence=confidence, intermediate_depths=depths)
