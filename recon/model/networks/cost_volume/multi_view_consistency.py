"""Consistency of a view's depth hypotheses with the depths that the other views estimate."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.model.layers.precision import full_precision
from recon.model.mvs.warp import Warp, inside, sample_planes
from recon.model.networks.cost_volume.depth_distribution import DepthDistribution
from render import Cameras
from render.cameras import pixel_centers

# Mean agreement; best agreement; fraction of the views that see through the point; agreement with
# a view that resolves the point finer; number of views that see it, divided by COUNT_UNIT.
NUM_CONSISTENCY_CHANNELS = 5
COUNT_UNIT = 4
# The optical depth of a pixel's Gaussian is multiplied by this if no other view sees its surface.
UNSHARED_WEIGHT = 3.0
# Spreads are not taken to be smaller than this (fraction of the depth range).
MIN_SPREAD = 0.01


def opacity_weight(consistency: Float[Tensor, "n k *pixels"]) -> Float[Tensor, " n *pixels"]:
    """Compute the factor on the optical depth of each pixel's Gaussian.

    Views that see the same surface divide its opacity among them: the more of them there are,
    the smaller the factor. A view that sees the point without agreeing counts half.
    """
    mean, count = consistency[:, 0], COUNT_UNIT * consistency[:, 4]
    return UNSHARED_WEIGHT / (1 + count * (1 + mean) / 2)


@dataclass(frozen=True)
class MultiViewConsistency:
    """Depth distributions of all views, to compare hypotheses with."""

    distribution: DepthDistribution
    low: Float[Tensor, " n"]
    """Disparity at fraction 0 (1 / normalised unit)."""
    high: Float[Tensor, " n"]
    """Disparity at fraction 1 (1 / normalised unit)."""
    cameras: Cameras
    """Cameras at the size of the distribution."""
    sources: Int[Tensor, "n s"]
    """Indices of each view's source views."""

    @torch.no_grad()
    @full_precision
    def evaluate(
        self, views: Int[Tensor, " m"], disparity: Float[Tensor, "m d h w"]
    ) -> Float[Tensor, "m k d h w"]:
        """Compute the consistency channels of some views at each of their disparities.

        There are no gradients: a view's depth must not be bent to agree with the others.
        """
        mean, best, seen_through, finer, count = disparity.new_zeros(
            NUM_CONSISTENCY_CHANNELS, *disparity.shape
        )
        parts = (self.distribution.fraction, self.distribution.spread, self.distribution.confidence)
        moments = torch.stack(parts, 1).float()
        for source in self.sources[views].T:
            found = self._compare(moments, views, source, disparity)
            mean, count = mean + found.agreement, count + found.seen
            seen_through = seen_through + found.seen_through
            best = torch.maximum(best, found.agreement)
            finer = torch.maximum(finer, found.agreement * found.finer)
        some = count.clamp_min(1)
        return torch.stack([mean / some, best, seen_through / some, finer, count / COUNT_UNIT], 1)

    def _compare(
        self,
        moments: Float[Tensor, "n 3 h w"],
        views: Int[Tensor, " m"],
        source: Int[Tensor, " m"],
        disparity: Float[Tensor, "m d h w"],
    ) -> "_SourceComparison":
        """Compare the hypotheses with one source view each."""
        warp = Warp.pairs(self.cameras, views, source)
        pixels, ratio = warp.pixels(disparity)
        fraction, spread, confidence = sample_planes(moments[source], pixels).unbind(1)
        seen = inside(pixels, ratio, self.cameras.width, self.cameras.height).to(disparity)
        low, high = (t[source][:, None, None, None] for t in (self.low, self.high))
        point = (disparity / ratio.clamp_min(1e-3) - low) / (high - low)
        deviation = (point - fraction) / spread.clamp_min(MIN_SPREAD)
        agreement = seen * torch.exp(-0.5 * deviation.square())
        seen_through = seen * confidence * (1 - agreement) * (deviation > 0)
        own = self._footprint_at_unit_depth(views, None) / disparity
        finer = self._footprint_at_unit_depth(source, pixels) * ratio / disparity < own
        return _SourceComparison(seen, agreement, seen_through, finer.to(disparity))

    def _footprint_at_unit_depth(
        self, view: Int[Tensor, " m"], pixels: Float[Tensor, "m d h w 2"] | None
    ) -> Float[Tensor, " m #d h w"]:
        """Size of a pixel's footprint at depth 1, across the ray: ray length over focal length.

        At the given positions, or at every pixel for None.
        """
        Ks = self.cameras.Ks[view][:, None, None, None]
        if pixels is None:
            y, x = pixel_centers(self.cameras.height, self.cameras.width, Ks)
            pixels = torch.stack([x, y], -1)[None, None]
        focal, centre = Ks[..., [0, 1], [0, 1]], Ks[..., :2, 2]
        length = ((pixels - centre) / focal).square().sum(-1).add(1).sqrt()
        return length / focal.mean(-1)


@dataclass(frozen=True)
class _SourceComparison:
    """Hypotheses compared with the depth of one source view."""

    seen: Float[Tensor, "m d h w"]
    """1 if the point projects into the source view."""
    agreement: Float[Tensor, "m d h w"]
    """1 on the source view's surface, falling off with the distance over its spread."""
    seen_through: Float[Tensor, "m d h w"]
    """Confidence of the source view in a surface behind the point."""
    finer: Float[Tensor, "m d h w"]
    """1 if the source view has a smaller pixel footprint at the point than the view itself."""
