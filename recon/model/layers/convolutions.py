"""Convolutional parts: normalised blocks in two and three dimensions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import group_norm, relu

CHANNELS_A_GROUP = 8
# oneDNN's bf16 weight gradients of padded convolutions read memory that nobody wrote when a side
# is this short (seen: 3D with 2 planes, 2D with stride 2 on one pixel; torch 2.13, AVX-512).
SHORT_SIDE = 2


class Conv2d(nn.Conv2d):
    """As torch's; in float32 on a CPU where its bf16 gradients cannot be trusted."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """At the size divided by the stride."""
        with _trusted(input) as values:
            return super().forward(values)


class Conv3d(nn.Conv3d):
    """As torch's; in float32 on a CPU where its bf16 gradients cannot be trusted."""

    def forward(self, input: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c2 d2 h2 w2"]:
        """At the size divided by the stride."""
        with _trusted(input) as values:
            return super().forward(values)


@contextmanager
def _trusted(values: Tensor) -> Iterator[Tensor]:
    if values.device.type != "cpu" or min(values.shape[2:]) > SHORT_SIDE:
        yield values
    else:
        with torch.autocast("cpu", enabled=False):
            yield values.float()


CONV = {2: Conv2d, 3: Conv3d}
CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
Dimensions = Literal[2, 3]


class GroupNorm(nn.GroupNorm):
    """Wu and He 2018, in groups of 8 channels. It sums in float32 and keeps the dtype it gets."""

    def __init__(self, channels: int) -> None:
        super().__init__(max(1, channels // CHANNELS_A_GROUP), channels)

    def forward(self, values: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """Over the size and the channels of a group."""
        with torch.autocast(values.device.type, enabled=False):
            if values.device.type == "cpu":  # its kernel takes both precisions at once
                return group_norm(values, self.num_groups, self.weight, self.bias, self.eps)
            normed = group_norm(values.float(), self.num_groups, self.weight, self.bias, self.eps)
        return normed.to(values.dtype)


class ConvBlock(nn.Module):
    """Convolution of side 3, GroupNorm, ReLU."""

    def __init__(
        self, dims: Dimensions, channels_in: int, channels_out: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = CONV[dims](channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm = GroupNorm(channels_out)

    def forward(self, values: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d *small"]:
        """At the size divided by the stride."""
        return relu(self.norm(self.conv(values)))


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity (He et al. 2016)."""

    def __init__(self, dims: Dimensions, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(dims, channels, channels)
        self.second = CONV[dims](channels, channels, 3, padding=1, bias=False)
        self.norm = GroupNorm(channels)

    def forward(self, values: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """At the same size."""
        return relu(values + self.norm(self.second(self.first(values))))
