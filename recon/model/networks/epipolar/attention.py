"""Attention of every pixel along its epipolar lines (pixelSplat, section 4.1, eq. 2 to 5)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.model.layers.convolutions import ResidualBlock
from recon.model.layers.norms import GroupNorm
from recon.model.layers.precision import full_precision
from recon.model.mvs.correlation import group_product
from recon.model.mvs.warp import sample_planes, source_pixels
from render import Cameras

# Frequencies of the depth encoding.
OCTAVES = 6


@dataclass(frozen=True)
class EpipolarLines:
    """Cameras of all views of a batch, flattened to one axis, and points on the pixels' rays."""

    cameras: Cameras
    """Cameras at the size of the feature maps."""
    sources: Int[Tensor, "n s"]
    """Indices of each view's source views."""
    disparity: Float[Tensor, "n d"]
    """Points on every ray (1 / normalised unit), uniform in disparity from far to near, which is
    about uniform along the epipolar lines, as in pixelSplat."""


@dataclass(frozen=True)
class _SourceSamples:
    """Keys and values of one source view at the points of some views' rays."""

    keys: Float[Tensor, "m g c d h w"]
    values: Float[Tensor, "m g c d h w"]
    seen: Bool[Tensor, "m 1 d h w"]


class EpipolarAttention(nn.Module):
    """Cross-attention from a pixel to the source views' features along its ray.

    Each point's depth is also encoded (eq. 4: triangulation happens here). Two convolutions
    within the view follow.
    """

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(width)
        self.query = nn.Conv2d(width, width, 1, bias=False)
        self.key_value = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.depth = nn.Linear(2 * OCTAVES, 2 * width, bias=False)
        # Key of a pixel whose points no source view sees.
        self.nothing = nn.Parameter(torch.zeros(width))
        self.out = nn.Conv2d(width, width, 1, bias=False)
        self.mix = ResidualBlock(2, width)
        self.register_buffer("encoding", depth_encoding(points), persistent=False)

    def forward(
        self, features: Float[Tensor, "n c h w"], lines: EpipolarLines, recompute: bool
    ) -> Float[Tensor, "n c h w"]:
        """Add what the source views show along the rays to the features.

        Without gradients the views are processed one by one, since the samples are large.
        """
        normed = self.norm(features)
        views = torch.arange(len(features), device=features.device)
        if not torch.is_grad_enabled():
            attended = torch.cat([self._attend(normed, lines, view) for view in views.split(1)])
        elif recompute:
            attended = checkpoint(self._attend, normed, lines, views, use_reentrant=False)
        else:
            attended = self._attend(normed, lines, views)
        mixed: Tensor = self.mix(features + self.out(attended))
        return mixed

    def _attend(
        self, features: Float[Tensor, "n c h w"], lines: EpipolarLines, views: Int[Tensor, " m"]
    ) -> Float[Tensor, "m c h w"]:
        query = self.query(features[views]).float().unflatten(1, (self.heads, -1))
        query = query / math.sqrt(query.shape[2])
        key_value = self.key_value(features).float()
        encoding = self.depth(self.get_buffer("encoding")).float().mT
        key_code, value_code = encoding.reshape(2, self.heads, -1, encoding.shape[-1])
        sampled = [self._sample(key_value, lines, views, s) for s in lines.sources[views].T]
        scores = self._scores(query, key_code, sampled)
        weights = scores.softmax(2)[:, :, 1:]
        return self._gather(weights, value_code, sampled, features[views])

    @full_precision
    def _sample(
        self,
        key_value: Float[Tensor, "n kv h w"],
        lines: EpipolarLines,
        views: Int[Tensor, " m"],
        source: Int[Tensor, " m"],
    ) -> _SourceSamples:
        size = key_value.shape[-2:]
        disparity = lines.disparity[views][:, :, None, None].expand(-1, -1, *size)
        pixels, seen = source_pixels(lines.cameras, views, source, disparity)
        # The linear layer commutes with bilinear sampling and is cheaper before it.
        sampled = sample_planes(key_value[source], pixels)
        keys, values = sampled.unflatten(1, (2, self.heads, -1)).unbind(1)
        return _SourceSamples(keys, values, seen[:, None])

    @full_precision
    def _scores(
        self,
        query: Float[Tensor, "m g c h w"],
        key_code: Float[Tensor, "g c d"],
        sampled: list[_SourceSamples],
    ) -> Float[Tensor, "m g k h w"]:
        """Compute the score of attending to nothing, then those of all points of all views."""
        nothing = self.nothing.reshape(1, self.heads, -1, 1, 1)
        scores = [(query * nothing).sum(2)[:, :, None]]
        from_depth = torch.einsum("mgchw,gcd->mgdhw", query, key_code)
        for source in sampled:
            score = group_product(query.contiguous(), source.keys) + from_depth
            scores.append(score.masked_fill(~source.seen, float("-inf")))
        return torch.cat(scores, 2)

    @full_precision
    def _gather(
        self,
        weights: Float[Tensor, "m g k h w"],
        value_code: Float[Tensor, "g c d"],
        sampled: list[_SourceSamples],
        like: Float[Tensor, "m gc h w"],
    ) -> Float[Tensor, "m gc h w"]:
        """Sum the values of all points and their depth codes, by weight."""
        total = torch.zeros_like(like, dtype=torch.float32)
        if not sampled:
            return total
        for weight, source in zip(weights.chunk(len(sampled), 2), sampled, strict=True):
            features = (weight[:, :, None] * source.values).sum(3)
            depths = torch.einsum("mgdhw,gcd->mgchw", weight, value_code)
            total = total + (features + depths).flatten(1, 2)
        return total


def depth_encoding(points: int) -> Float[Tensor, "d e"]:
    """Encode fractions from far to near by sines and cosines (pixelSplat, eq. 3)."""
    fraction = torch.linspace(0, 1, points)[:, None]
    waves = torch.pi * fraction * 2.0 ** torch.arange(OCTAVES)
    return torch.cat([waves.sin(), waves.cos()], 1)
