"""Every pixel looks along its epipolar lines (pixelSplat, section 4.1, eq. 2 to 5)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.model.layers.convolutions import GroupNorm, ResidualBlock
from recon.model.layers.group_product import GroupProduct
from recon.model.layers.precision import full_precision
from recon.model.mvs.warp import sample_planes, source_pixels
from render import Cameras

OCTAVES = 6


@dataclass(frozen=True)
class Lines:
    """The cameras of all views of a batch in one row, and points on the pixels' rays."""

    cameras: Cameras
    """At the size of the features."""
    sources: Int[Tensor, "n s"]
    disparity: Float[Tensor, "n d"]
    """Points on every ray (1 / normalised unit), even in disparity from far to near: about even
    along the epipolar lines, as pixelSplat's."""


@dataclass(frozen=True)
class _Sampled:
    """What one source view shows at the points of some views' rays."""

    keys: Float[Tensor, "m g c d h w"]
    values: Float[Tensor, "m g c d h w"]
    seen: Bool[Tensor, "m 1 d h w"]


class EpipolarAttention(nn.Module):
    """Cross-attention from a pixel to the points on its ray, as the other views show them; each
    point's depth is encoded beside (eq. 4: triangulation happens here). Then two convolutions
    within the view."""

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(width)
        self.query = nn.Conv2d(width, width, 1, bias=False)
        self.key_value = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.depth = nn.Linear(2 * OCTAVES, 2 * width, bias=False)
        # What a pixel finds whose points nobody sees.
        self.nothing = nn.Parameter(torch.zeros(width))
        self.out = nn.Conv2d(width, width, 1, bias=False)
        self.mix = ResidualBlock(2, width)
        self.register_buffer("encoding", depth_encoding(points), persistent=False)

    def forward(
        self, features: Float[Tensor, "n c h w"], lines: Lines, recompute: bool
    ) -> Float[Tensor, "n c h w"]:
        """The features, knowing what lies on their rays.

        Without gradients one view goes after the other: the samples are many.
        """
        normed = self.norm(features)
        everyone = torch.arange(len(features), device=features.device)
        if not torch.is_grad_enabled():
            found = torch.cat([self._look(normed, lines, one) for one in everyone.split(1)])
        elif recompute:
            found = checkpoint(self._look, normed, lines, everyone, use_reentrant=False)
        else:
            found = self._look(normed, lines, everyone)
        return self.mix(features + self.out(found))

    def _look(
        self, features: Float[Tensor, "n c h w"], lines: Lines, which: Int[Tensor, "m"]
    ) -> Float[Tensor, "m c h w"]:
        query = self.query(features[which]).float().unflatten(1, (self.heads, -1))
        query = query / math.sqrt(query.shape[2])
        key_value = self.key_value(features).float()
        encoding = self.depth(self.get_buffer("encoding")).float().mT
        key_code, value_code = encoding.reshape(2, self.heads, -1, encoding.shape[-1])
        sampled = [self._sample(key_value, lines, which, s) for s in lines.sources[which].T]
        scores = self._scores(query, key_code, sampled)
        weights = scores.softmax(2)[:, :, 1:]
        return self._gather(weights, value_code, sampled, features[which])

    @full_precision
    def _sample(
        self,
        key_value: Float[Tensor, "n kv h w"],
        lines: Lines,
        which: Int[Tensor, "m"],
        source: Int[Tensor, "m"],
    ) -> _Sampled:
        size = key_value.shape[-2:]
        disparity = lines.disparity[which][:, :, None, None].expand(-1, -1, *size)
        pixels, seen = source_pixels(lines.cameras, which, source, disparity)
        # A linear layer and a bilinear sample commute: the layer comes first, it is cheaper so.
        shown = sample_planes(key_value[source], pixels)
        keys, values = shown.unflatten(1, (2, self.heads, -1)).unbind(1)
        return _Sampled(keys, values, seen[:, None])

    @full_precision
    def _scores(
        self,
        query: Float[Tensor, "m g c h w"],
        key_code: Float[Tensor, "g c d"],
        sampled: list[_Sampled],
    ) -> Float[Tensor, "m g k h w"]:
        """First the score of finding nothing, then of every point in every source."""
        nothing = self.nothing.reshape(1, self.heads, -1, 1, 1)
        scores = [(query * nothing).sum(2)[:, :, None]]
        from_depth = torch.einsum("mgchw,gcd->mgdhw", query, key_code)
        for source in sampled:
            score = GroupProduct.apply(query.contiguous(), source.keys) + from_depth
            scores.append(score.masked_fill(~source.seen, float("-inf")))
        return torch.cat(scores, 2)

    @full_precision
    def _gather(
        self,
        weights: Float[Tensor, "m g k h w"],
        value_code: Float[Tensor, "g c d"],
        sampled: list[_Sampled],
        like: Float[Tensor, "m gc h w"],
    ) -> Float[Tensor, "m gc h w"]:
        found = torch.zeros_like(like, dtype=torch.float32)
        if not sampled:
            return found
        for share, source in zip(weights.chunk(len(sampled), 2), sampled, strict=True):
            shown = (share[:, :, None] * source.values).sum(3)
            coded = torch.einsum("mgdhw,gcd->mgchw", share, value_code)
            found = found + (shown + coded).flatten(1, 2)
        return found


def depth_encoding(points: int) -> Float[Tensor, "d e"]:
    """Sines and cosines of the way from far to near (pixelSplat, eq. 3)."""
    fraction = torch.linspace(0, 1, points)[:, None]
    waves = torch.pi * fraction * 2.0 ** torch.arange(OCTAVES)
    return torch.cat([waves.sin(), waves.cos()], 1)
