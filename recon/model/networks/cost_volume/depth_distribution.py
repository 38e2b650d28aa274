"""Depth hypotheses, and the distribution over them that a stage estimates."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from recon.model.layers.precision import full_precision
from render.tensors import TensorStruct

# Spreads are not taken to be smaller than this (fraction of the depth range).
MIN_SPREAD = 0.003


@dataclass(frozen=True)
class DepthHypotheses:
    """Depths to test per pixel, as fractions from far (0) to near (1), linear in disparity."""

    fraction: Float[Tensor, "n d #h #w"]
    low: Float[Tensor, " n"]
    """Disparity at fraction 0 (1 / normalised unit)."""
    high: Float[Tensor, " n"]
    """Disparity at fraction 1 (1 / normalised unit)."""

    @property
    def disparity(self) -> Float[Tensor, "n d #h #w"]:
        """1 / z of every hypothesis (1 / normalised unit)."""
        low, high = (t[:, None, None, None] for t in (self.low, self.high))
        return low + self.fraction * (high - low)


@dataclass(frozen=True)
class DepthDistribution(TensorStruct):
    """Mean, spread and confidence of the distribution over a pixel's depth hypotheses."""

    fraction: Float[Tensor, "n h w"]
    """Mean, as a fraction from far (0) to near (1)."""
    spread: Float[Tensor, "n h w"]
    """Standard deviation, in the same unit."""
    confidence: Float[Tensor, "n h w"]
    """Probability of the likeliest hypothesis and its two neighbours."""

    @staticmethod
    @full_precision
    def from_scores(
        scores: Float[Tensor, "n d h w"], hypotheses: DepthHypotheses
    ) -> "DepthDistribution":
        """Compute the moments of the scores' softmax (soft argmin, Kendall et al. 2017, eq. 1)."""
        probability = scores.softmax(1)
        mean = (probability * hypotheses.fraction).sum(1)
        deviation = (hypotheses.fraction - mean[:, None]).square()
        spread = ((probability * deviation).sum(1) + 1e-10).sqrt()
        padded = torch.nn.functional.pad(probability, (0, 0, 0, 0, 1, 1))
        three = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        return DepthDistribution(mean, spread, three.amax(1))

    @full_precision
    def log_density(self, fraction: Float[Tensor, "n 1 d h w"]) -> Float[Tensor, "n 1 d h w"]:
        """Compute the logarithm of a normal density's ratio to its maximum, at least -4."""
        mean, spread = self.fraction[:, None, None], self.spread[:, None, None]
        deviation = (fraction - mean) / spread.clamp_min(MIN_SPREAD)
        return (-0.5 * deviation.square()).clamp_min(-4).detach()

    def cropped(self, height: int, width: int) -> "DepthDistribution":
        """Crop to the upper left corner."""
        return self.map(lambda values: values[:, :height, :width])

    def upsampled(self, factor: int) -> "DepthDistribution":
        """Upsample bilinearly by an integer factor."""
        parts = torch.stack([self.fraction, self.spread, self.confidence], 1)
        return DepthDistribution(
            *interpolate(parts, scale_factor=factor, mode="bilinear").unbind(1)
        )
