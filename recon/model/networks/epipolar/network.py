"""The parts of `epipolar` put together."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from recon.model.batch import NetworkOutput, ViewBatch
from recon.model.heads import activate
from recon.model.layers.convolutions import ConvBlock, ResidualBlock
from recon.model.layers.precision import full_precision
from recon.model.layers.pyramid import MULTIPLE_PX, Pyramid
from recon.model.mvs.source_views import choose_sources
from recon.model.networks.epipolar.attention import EpipolarAttention, Lines
from recon.model.networks.epipolar.config import EpipolarConfig
from recon.model.networks.epipolar.depth import Draws, draw, mean_fraction
from render import Gaussians

ATTENTION_PX, HALF_PX = 4, 2
MARGIN = 1e-4


class EpipolarNetwork(nn.Module):
    """Takes a normalised batch of any number of views and any picture size."""

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
        # Scores and offsets of the buckets; depth and opacity come from them, the rest follows.
        self.leave = nn.Conv2d(hidden, HALF_PX**2 * (2 * config.buckets + self._looks), 1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @property
    def _looks(self) -> int:
        return self.config.head.channels - 2

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Gaussians in the frame of the batch's cameras; random draws while training."""
        (scenes, views), (height, width) = batch.images.shape[:2], batch.images.shape[-2:]
        raw = self._raw(batch.padded(MULTIPLE_PX)).float()
        raw = raw[:, :height, :width].unflatten(0, (scenes, views))
        buckets = self.config.buckets
        scores, offsets, looks = raw.split([buckets, buckets, self._looks], -1)
        args = (self.config.gaussians, self.config.opacity_exponent, self.training)
        draws = draw(scores, offsets, *args)
        gaussians = _gaussians(draws, looks, batch, self.config)
        low, high = (1 / t[:, :, None, None] for t in (batch.far, batch.near))
        depth = 1 / (low + mean_fraction(scores, offsets) * (high - low))
        return NetworkOutput(gaussians, depth, scores.softmax(-1).amax(-1))

    def _raw(self, padded: ViewBatch) -> Float[Tensor, "n hp wp raw"]:
        """Raw numbers of every pixel of the padded pictures."""
        images, cameras = padded.images.flatten(0, 1), padded.cameras.flatten()
        half, features = self.pyramid(images, cameras, 1)
        height, width = features.shape[-2:]
        low, high = (1 / t.reshape(-1, 1) for t in (padded.far, padded.near))
        points = torch.linspace(0, 1, self.config.samples).to(low)
        sources = choose_sources(padded.cameras, padded.middle_depth, self.config.sources)
        lines = Lines(cameras.resized(width, height), sources, low + points * (high - low))
        for attention in self.rounds:
            features = attention(features, lines, self.config.recompute)
        up = interpolate(self.lift(features), scale_factor=2, mode="bilinear")
        return pixel_shuffle(self.leave(self.body(half + up)), HALF_PX).movedim(1, -1)


@full_precision
def _gaussians(
    draws: Draws, looks: Float[Tensor, "b v h w l"], batch: ViewBatch, config: EpipolarConfig
) -> Gaussians:
    """[b, n]: views, then rows, columns and draws. The draws of a pixel share their looks."""
    bias = config.head.opacity_bias
    parts = []
    for fraction, opacity in zip(draws.fraction.unbind(-1), draws.opacity.unbind(-1), strict=True):
        # The head's sigmoid counts from near to far.
        near_to_far = torch.logit(1 - fraction.clamp(MARGIN, 1 - MARGIN))
        bare = torch.logit(opacity.clamp(MARGIN, 1 - MARGIN)) - bias
        raw = torch.cat([near_to_far[..., None], bare[..., None], looks], -1)
        parts.append(activate(raw, batch, config.head).gaussians)
    fields = ("means", "quats", "scales", "opacities", "sh")
    joined = {
        name: torch.stack([getattr(part, name) for part in parts], 2).flatten(1, 2)
        for name in fields
    }
    return replace(parts[0], **joined)
