"""Similarity of views: ZNCC of image windows, and products of learned features.

ZNCC (zero-mean normalised cross-correlation) compares texture and ignores brightness and
contrast, which differ between photos.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

# Standard deviation of a window (display sRGB in [0, 1]) at which noise is as strong as texture:
# flatter windows have a correlation near 0, neither similar nor different.
NOISE = 0.004


def box_mean(images: Float[Tensor, "*b c h w"], radius: int) -> Float[Tensor, "*b c h w"]:
    """Compute the mean over windows of 2 radius + 1 pixels, with the border repeated."""
    flat = images.reshape(-1, *images.shape[-3:])
    padded = pad(flat, (radius, radius, radius, radius), mode="replicate")
    # Sums of shifted images: on a CPU several times faster than avg_pool2d or conv2d.
    for axis in (-2, -1):
        size = images.shape[axis]
        total = padded.narrow(axis, 0, size).clone()
        for shift in range(1, 2 * radius + 1):
            total += padded.narrow(axis, shift, size)
        padded = total
    return (padded / (2 * radius + 1) ** 2).reshape(images.shape)


def window_moments(
    images: Float[Tensor, "*b c h w"], radius: int
) -> tuple[Float[Tensor, "*b c h w"], Float[Tensor, "*b c h w"]]:
    """Compute mean and variance of each window."""
    mean = box_mean(images, radius)
    return mean, (box_mean(images * images, radius) - mean * mean).clamp_min(0)


def zncc(
    a: Float[Tensor, "*#b 1 h w"], b: Float[Tensor, "*#b 1 h w"], radius: int
) -> Float[Tensor, "*b 1 h w"]:
    """Compute the correlation, -1 to 1, of each window of a with the same window of b."""
    mean_a, var_a = window_moments(a, radius)
    mean_b, var_b = window_moments(b, radius)
    covariance = box_mean(a * b, radius) - mean_a * mean_b
    return covariance * torch.rsqrt((var_a + NOISE**2) * (var_b + NOISE**2))


def group_product(
    reference: Float[Tensor, "m g c h w"], source: Float[Tensor, "m g c d h w"]
) -> Float[Tensor, "m g d h w"]:
    """Sum reference x source over the channels of each group, for every plane.

    This is the group-wise correlation of Guo et al. 2019, eq. 4, for unit vectors.
    """
    product: Tensor = GroupProduct.apply(reference, source)  # type: ignore[no-untyped-call]
    return product


class GroupProduct(torch.autograd.Function):
    """The sum over c of reference [m g c h w] x source [m g c d h w].

    It goes channel by channel: torch's own broadcast product writes, and in the backward pass
    expands, tensors c times as large, which is bound by memory on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, reference: Tensor, source: Tensor) -> Tensor:
        """Compute the sum of the products."""
        ctx.save_for_backward(reference, source)
        total = reference[:, :, 0, None] * source[:, :, 0]
        for c in range(1, reference.shape[2]):
            total.addcmul_(reference[:, :, c, None], source[:, :, c])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradients of both factors."""
        reference, source = ctx.saved_tensors
        to_reference, to_source = torch.empty_like(reference), torch.empty_like(source)
        for c in range(reference.shape[2]):
            torch.mul(reference[:, :, c, None], grad, out=to_source[:, :, c])
            to_reference[:, :, c] = (source[:, :, c] * grad).sum(2)
        return to_reference, to_source
