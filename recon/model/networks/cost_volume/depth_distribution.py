"""Planes, and where among them the surface is believed to be."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from recon.model.layers.precision import full_precision


@dataclass(frozen=True)
class Planes:
    """Where to look: fractions of the way from far (0) to near (1), even in disparity."""

    fraction: Float[Tensor, "n d #h #w"]
    low: Float[Tensor, "n"]
    """Disparity at fraction 0 (1 / normalised unit)."""
    high: Float[Tensor, "n"]

    @property
    def disparity(self) -> Float[Tensor, "n d #h #w"]:
        """1 / z."""
        low, high = (t[:, None, None, None] for t in (self.low, self.high))
        return low + self.fraction * (high - low)


@dataclass(frozen=True)
class Belief:
    """Mean and spread of what the planes' scores say."""

    fraction: Float[Tensor, "n h w"]
    spread: Float[Tensor, "n h w"]
    """Standard deviation, as a fraction."""
    confidence: Float[Tensor, "n h w"]
    """Probability of the likeliest plane and its two neighbours."""

    def cropped(self, height: int, width: int) -> "Belief":
        """Its upper left corner."""
        parts = (self.fraction, self.spread, self.confidence)
        return Belief(*(part[:, :height, :width] for part in parts))

    def enlarged(self, factor: int) -> "Belief":
        """So many times as large."""
        parts = torch.stack([self.fraction, self.spread, self.confidence], 1)
        return Belief(*interpolate(parts, scale_factor=factor, mode="bilinear").unbind(1))


@full_precision
def believe(scores: Float[Tensor, "n d h w"], planes: Planes) -> Belief:
    """Softmax over planes, and its moments (soft argmin, Kendall et al. 2017, eq. 1)."""
    probability = scores.softmax(1)
    mean = (probability * planes.fraction).sum(1)
    away = (planes.fraction - mean[:, None]).square()
    spread = ((probability * away).sum(1) + 1e-10).sqrt()
    padded = torch.nn.functional.pad(probability, (0, 0, 0, 0, 1, 1))
    three = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return Belief(mean, spread, three.amax(1))
