"""What the other views' beliefs say of a point: is it on their surface, before it, or behind?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.model.layers.precision import full_precision
from recon.model.mvs.warp import Warp, inside, sample_planes
from recon.model.networks.cost_volume.depth_distribution import Belief
from render import Cameras
from render.cameras import pixel_centers

# Agreement on average and at best; share of the views that look through the point; agreement
# with a view that sees the point finer; how many see it, in parts of SEVERAL.
VOTES = 5
SEVERAL = 4
# What a pixel's Gaussian absorbs is multiplied by this if no other view shows its surface.
ALONE = 3.0
# A belief is never taken to be surer than this (fraction of the range).
MIN_SPREAD = 0.01


def share_of(votes: Float[Tensor, "n v *pixels"]) -> Float[Tensor, "n *pixels"]:
    """How much of a surface each view's Gaussians are to absorb: the less, the more other views
    show it, half of them if they only look there and do not agree."""
    mean, count = votes[:, 0], SEVERAL * votes[:, 4]
    return ALONE / (1 + count * (1 + mean) / 2)


@dataclass(frozen=True)
class Poll:
    """The beliefs of all views, for all to ask."""

    belief: Belief
    low: Float[Tensor, "n"]
    """Disparity at fraction 0 (1 / normalised unit)."""
    high: Float[Tensor, "n"]
    """Disparity at fraction 1."""
    cameras: Cameras
    """At the belief's size."""
    sources: Int[Tensor, "n s"]

    @torch.no_grad()
    @full_precision
    def votes(
        self, which: Int[Tensor, "m"], disparity: Float[Tensor, "m d h w"]
    ) -> Float[Tensor, "m v d h w"]:
        """For the views `which`, at each of their disparities. No gradients: what a view believes
        is not to be bent so that others like it."""
        mean, best, front, finer, count = disparity.new_zeros(VOTES, *disparity.shape)
        parts = (self.belief.fraction, self.belief.spread, self.belief.confidence)
        known = torch.stack(parts, 1).float()
        for source in self.sources[which].T:
            answer = self._ask(known, which, source, disparity)
            mean, front, count = mean + answer.agrees, front + answer.before, count + answer.seen
            best = torch.maximum(best, answer.agrees)
            finer = torch.maximum(finer, answer.agrees * answer.finer)
        some = count.clamp_min(1)
        return torch.stack([mean / some, best, front / some, finer, count / SEVERAL], 1)

    def _ask(
        self,
        known: Float[Tensor, "n 3 h w"],
        which: Int[Tensor, "m"],
        source: Int[Tensor, "m"],
        disparity: Float[Tensor, "m d h w"],
    ) -> "_Answer":
        """One source of each view."""
        warp = Warp.pairs(self.cameras, which, source)
        pixels, ratio = warp.pixels(disparity)
        fraction, spread, confidence = sample_planes(known[source], pixels).unbind(1)
        seen = inside(pixels, ratio, self.cameras.width, self.cameras.height).to(disparity)
        low, high = (t[source][:, None, None, None] for t in (self.low, self.high))
        point = (disparity / ratio.clamp_min(1e-3) - low) / (high - low)
        away = (point - fraction) / spread.clamp_min(MIN_SPREAD)
        agrees = seen * torch.exp(-0.5 * away.square())
        before = seen * confidence * (1 - agrees) * (away > 0)
        own = self._reach(which, None) / disparity
        finer = self._reach(source, pixels) * ratio / disparity < own
        return _Answer(seen, agrees, before, finer.to(disparity))

    def _reach(
        self, view: Int[Tensor, "m"], pixels: Float[Tensor, "m d h w 2"] | None
    ) -> Float[Tensor, "m #d h w"]:
        """Size of a pixel's footprint at depth 1, across the ray: the ray's length over the
        focal length; at every pixel if none are named."""
        Ks = self.cameras.Ks[view][:, None, None, None]
        if pixels is None:
            y, x = pixel_centers(self.cameras.height, self.cameras.width, Ks)
            pixels = torch.stack([x, y], -1)[None, None]
        focal, centre = Ks[..., [0, 1], [0, 1]], Ks[..., :2, 2]
        length = ((pixels - centre) / focal).square().sum(-1).add(1).sqrt()
        return length / focal.mean(-1)


@dataclass(frozen=True)
class _Answer:
    """What one view says of each point."""

    seen: Float[Tensor, "m d h w"]
    """1 if it looks at the point."""
    agrees: Float[Tensor, "m d h w"]
    """1 on its surface, less away from it, measured in its own doubt."""
    before: Float[Tensor, "m d h w"]
    """How surely it sees something behind the point."""
    finer: Float[Tensor, "m d h w"]
    """1 if the point is larger in its picture than in the asking view's."""
