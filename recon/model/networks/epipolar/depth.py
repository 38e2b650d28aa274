"""Probabilistic depth: sample a bucket and use its probability as opacity.

pixelSplat, section 4.2 and algorithm 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.model.layers.precision import full_precision


@dataclass(frozen=True)
class DepthSamples:
    """Sampled depths of every pixel."""

    fraction: Float[Tensor, "*b s"]
    """Fraction from far (0) to near (1), linear in disparity."""
    opacity: Float[Tensor, "*b s"]


@full_precision
def sample_buckets(
    scores: Float[Tensor, "*b z"],
    offsets: Float[Tensor, "*b z"],
    count: int,
    exponent: float,
    random: bool,
) -> DepthSamples:
    """Choose `count` buckets of each pixel, at random by probability, or the likeliest ones.

    A sample has no gradient; its probability is its opacity, so that an image that improves
    makes the bucket likelier (eq. 8): the network learns through the opacity.

    Args:
        scores: Logits of the buckets.
        offsets: Logits of the positions within the buckets.
        count: Number of samples per pixel.
        exponent: See `opacity_from_probability`.
        random: Sample by probability (training) instead of the `count` likeliest.
    """
    probability = scores.softmax(-1)
    buckets = _choose_buckets(probability.detach(), count, random)
    fraction = (buckets + torch.sigmoid(offsets.gather(-1, buckets))) / scores.shape[-1]
    opacity = opacity_from_probability(probability.gather(-1, buckets), exponent)
    # All samples at the same depth together are as opaque as a single one would be.
    return DepthSamples(fraction, 1 - (1 - opacity.clamp(max=0.9999)) ** (1 / count))


def opacity_from_probability(
    probability: Float[Tensor, "*b"], exponent: float
) -> Float[Tensor, "*b"]:
    """Map p to (1 - (1 - p)^e + p^(1/e)) / 2, as pixelSplat's code does; e = 1 is the identity."""
    p = probability.clamp(1e-6, 1 - 1e-6)
    return 0.5 * (1 - (1 - p) ** exponent + p ** (1 / exponent))


@full_precision
def mean_fraction(
    scores: Float[Tensor, "*b z"], offsets: Float[Tensor, "*b z"]
) -> Float[Tensor, "*b"]:
    """Compute the distribution's mean, a depth that has a gradient."""
    buckets = torch.arange(scores.shape[-1], device=scores.device)
    fractions = (buckets + torch.sigmoid(offsets)) / scores.shape[-1]
    return (scores.softmax(-1) * fractions).sum(-1)


def _choose_buckets(
    probability: Float[Tensor, "*b z"], count: int, random: bool
) -> Int[Tensor, "*b s"]:
    if not random:
        return probability.topk(count, -1).indices
    flat = probability.reshape(-1, probability.shape[-1])
    return torch.multinomial(flat, count, replacement=True).reshape(*probability.shape[:-1], count)
