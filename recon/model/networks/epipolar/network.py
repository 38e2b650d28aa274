"""The network `epipolar`: feature pyramid, epipolar attention, sampled depths."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.heads import activate
from recon.model.layers.convolutions import ConvBlock, ResidualBlock
from recon.model.layers.precision import full_precision
from recon.model.layers.pyramid import MULTIPLE_PX, Pyramid
from recon.model.mvs.source_views import batch_sources
from recon.model.networks.epipolar.attention import EpipolarAttention, EpipolarLines
from recon.model.networks.epipolar.config import EpipolarConfig
from recon.model.networks.epipolar.depth import DepthSamples, mean_fraction, sample_buckets
from render import Gaussians

HALF_PX = 2
# Fractions and opacities are kept this far from the ends of a sigmoid.
MARGIN = 1e-4


class EpipolarNetwork(nn.Module):
    """Maps a normalised batch of any number of views and any image size to Gaussians."""

    def __init__(self, config: EpipolarConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, _ = config.pyramid.channels
        self.pyramid = Pyramid(config.pyramid, config.recompute)
        self.rounds = nn.ModuleList(
            EpipolarAttention(quarter, config.heads, config.samples) for _ in range(config.rounds)
        )
        hidden = 2 * half
        self.lift = nn.Conv2d(quarter, half, 1)
        self.body = nn.Sequential(ConvBlock(2, half, hidden), ResidualBlock(2, hidden))
        # Scores and offsets of the buckets, for depth and opacity, then the other channels.
        channels = 2 * config.buckets + self._appearance_channels
        self.leave = nn.Conv2d(hidden, HALF_PX**2 * channels, 1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @property
    def _appearance_channels(self) -> int:
        return self.config.head.channels - 2

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Predict Gaussians in the frame of the batch's cameras; random samples while training."""
        (scenes, views), (height, width) = batch.images.shape[:2], batch.images.shape[-2:]
        raw = self._raw(batch.padded(MULTIPLE_PX)).float()
        raw = raw[:, :height, :width].unflatten(0, (scenes, views))
        buckets = self.config.buckets
        scores, offsets, appearance = raw.split([buckets, buckets, self._appearance_channels], -1)
        args = (self.config.gaussians, self.config.opacity_exponent, self.training)
        samples = sample_buckets(scores, offsets, *args)
        gaussians = _gaussians(samples, appearance, batch, self.config)
        low, high = (1 / t[:, :, None, None] for t in (batch.far, batch.near))
        depth = 1 / (low + mean_fraction(scores, offsets) * (high - low))
        return NetworkOutput(gaussians, depth, scores.softmax(-1).amax(-1))

    def _raw(self, padded: ViewBatch) -> Float[Tensor, "n hp wp raw"]:
        """Compute the raw channels of every pixel of the padded images."""
        images, cameras = padded.images.flatten(0, 1), padded.cameras.flatten()
        half, features = self.pyramid(images, cameras, 1)
        height, width = features.shape[-2:]
        low, high = (1 / t.reshape(-1, 1) for t in (padded.far, padded.near))
        points = torch.linspace(0, 1, self.config.samples).to(low)
        sources = batch_sources(padded.cameras, padded.middle_depth, self.config.sources)
        lines = EpipolarLines(cameras.resized(width, height), sources, low + points * (high - low))
        for attention in self.rounds:
            features = attention(features, lines, self.config.recompute)
        up = interpolate(self.lift(features), scale_factor=2, mode="bilinear")
        raw: Tensor = pixel_shuffle(self.leave(self.body(half + up)), HALF_PX)
        return raw.movedim(1, -1)


@full_precision
def _gaussians(
    samples: DepthSamples,
    appearance: Float[Tensor, "b v h w l"],
    batch: ViewBatch,
    config: EpipolarConfig,
) -> Gaussians:
    """Make Gaussians [b, n], ordered by view, row, column and sample.

    The samples of a pixel share their appearance.
    """
    bias = config.head.opacity_bias
    parts = []
    pairs = zip(samples.fraction.unbind(-1), samples.opacity.unbind(-1), strict=True)
    for fraction, opacity in pairs:
        # The head's sigmoid goes from near to far.
        near_to_far = torch.logit(1 - fraction.clamp(MARGIN, 1 - MARGIN))
        opacity_raw = torch.logit(opacity.clamp(MARGIN, 1 - MARGIN)) - bias
        raw = torch.cat([near_to_far[..., None], opacity_raw[..., None], appearance], -1)
        parts.append(activate(raw, batch, config.head).gaussians)
    fields = ("means", "quats", "scales", "opacities", "sh")
    joined = {
        name: torch.stack([getattr(part, name) for part in parts], 2).flatten(1, 2)
        for name in fields
    }
    return replace(parts[0], **joined)
