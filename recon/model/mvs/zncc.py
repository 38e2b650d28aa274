"""Zero-mean normalised cross-correlation of windows, the photometric part of plane sweeps.

It compares texture and ignores brightness and contrast, which differ between photos.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

# Standard deviation of a window (display sRGB in [0, 1]) at which noise is as strong
# as texture: flatter windows score near 0, neither alike nor different.
NOISE = 0.004


def box_mean(pictures: Float[Tensor, "*b c h w"], radius: int) -> Float[Tensor, "*b c h w"]:
    """Mean over windows of 2 radius + 1 pixels, the border repeated."""
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    padded = pad(flat, (radius, radius, radius, radius), mode="replicate")
    # Sums of shifted pictures: on a CPU many times as fast as avg_pool2d or conv2d.
    for axis in (-2, -1):
        size = pictures.shape[axis]
        total = padded.narrow(axis, 0, size).clone()
        for shift in range(1, 2 * radius + 1):
            total += padded.narrow(axis, shift, size)
        padded = total
    return (padded / (2 * radius + 1) ** 2).reshape(pictures.shape)


def window_moments(
    pictures: Float[Tensor, "*b c h w"], radius: int
) -> tuple[Float[Tensor, "*b c h w"], Float[Tensor, "*b c h w"]]:
    """Mean and variance of each window."""
    mean = box_mean(pictures, radius)
    return mean, (box_mean(pictures * pictures, radius) - mean * mean).clamp_min(0)


def zncc(
    a: Float[Tensor, "*#b 1 h w"], b: Float[Tensor, "*#b 1 h w"], radius: int
) -> Float[Tensor, "*b 1 h w"]:
    """Correlation in [-1, 1] of each window of a with the same window of b."""
    mean_a, var_a = window_moments(a, radius)
    mean_b, var_b = window_moments(b, radius)
    covariance = box_mean(a * b, radius) - mean_a * mean_b
    return covariance * torch.rsqrt((var_a + NOISE**2) * (var_b + NOISE**2))
