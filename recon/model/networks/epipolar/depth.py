"""Probabilistic depth: draw a bucket, and let its probability be the opacity
(pixelSplat, section 4.2 and algorithm 1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.model.layers.precision import full_precision


@dataclass(frozen=True)
class Draws:
    """Some buckets of every pixel."""

    fraction: Float[Tensor, "*b s"]
    """Way from far (0) to near (1), in disparity."""
    opacity: Float[Tensor, "*b s"]


@full_precision
def draw(
    scores: Float[Tensor, "*b z"],
    offsets: Float[Tensor, "*b z"],
    count: int,
    exponent: float,
    random: bool,
) -> Draws:
    """`count` buckets of each pixel: drawn by their probability, or the likeliest.

    A draw has no gradient; the probability of what was drawn is its opacity, so a picture that
    gets better makes it likelier (eq. 8): learning passes through the opacity.
    """
    probability = scores.softmax(-1)
    chosen = _chosen(probability.detach(), count, random)
    fraction = (chosen + torch.sigmoid(offsets.gather(-1, chosen))) / scores.shape[-1]
    opacity = opacity_of(probability.gather(-1, chosen), exponent)
    # All at one place cover as much as one alone would.
    return Draws(fraction, 1 - (1 - opacity.clamp(max=0.9999)) ** (1 / count))


def opacity_of(probability: Float[Tensor, "*b"], exponent: float) -> Float[Tensor, "*b"]:
    """(1 - (1 - p)^e + p^(1/e)) / 2, as pixelSplat's code maps the one to the other; e = 1 is
    the identity."""
    p = probability.clamp(1e-6, 1 - 1e-6)
    return 0.5 * (1 - (1 - p) ** exponent + p ** (1 / exponent))


@full_precision
def mean_fraction(
    scores: Float[Tensor, "*b z"], offsets: Float[Tensor, "*b z"]
) -> Float[Tensor, "*b"]:
    """The distribution's mean: a depth that has a gradient."""
    buckets = torch.arange(scores.shape[-1], device=scores.device)
    places = (buckets + torch.sigmoid(offsets)) / scores.shape[-1]
    return (scores.softmax(-1) * places).sum(-1)


def _chosen(probability: Float[Tensor, "*b z"], count: int, random: bool) -> Int[Tensor, "*b s"]:
    if not random:
        return probability.topk(count, -1).indices
    flat = probability.reshape(-1, probability.shape[-1])
    return torch.multinomial(flat, count, replacement=True).reshape(*probability.shape[:-1], count)
