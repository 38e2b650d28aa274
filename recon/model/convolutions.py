"""Convolutional parts: normalised blocks in two and three dimensions."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import group_norm, relu

CHANNELS_A_GROUP = 8
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
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
