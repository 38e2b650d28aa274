"""Convolutional blocks in two and three dimensions."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from recon.model.layers.norms import GroupNorm
from recon.model.layers.precision import reliable_convolution


class Conv2d(nn.Conv2d):
    """A 2D convolution with reliable bf16 gradients on CPUs (see precision.py)."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Convolve; the size is divided by the stride."""
        with reliable_convolution(channels_last(input)) as values:
            return super().forward(values)


class Conv3d(nn.Conv3d):
    """A 3D convolution with reliable bf16 gradients on CPUs (see precision.py)."""

    def forward(self, input: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c2 d2 h2 w2"]:
        """Convolve; the size is divided by the stride."""
        with reliable_convolution(channels_last(input)) as values:
            if isinstance(self.padding, str) or not _is_for_onednn(values):
                return super().forward(values)
            convolved: Tensor = torch.mkldnn_convolution(
                values,
                self.weight,
                self.bias,
                self.padding,
                self.stride,
                self.dilation,
                self.groups,
            )
            return convolved


def channels_last(values: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
    """Lay out the channels of a pixel side by side in memory, on CPUs; the shape stays the same.

    oneDNN computes in this layout, and would convert the input and the output of each convolution.
    Convolutions, norms and products keep the layout, so that only the first one of a network
    converts (docs/experiments/performance.md).
    """
    if values.device.type != "cpu":
        return values
    layout = torch.channels_last if values.dim() == 4 else torch.channels_last_3d
    return values.contiguous(memory_format=layout)


def _is_for_onednn(values: Tensor) -> bool:
    """Return whether oneDNN is to be called directly: float32 on a CPU.

    torch 2.13 uses it for a batch of one volume only if the product of its channels, planes and
    rows exceeds 20,480 (ConvParams::use_mkldnn, which was written for images). Its own loop for
    smaller ones is a tenth as fast.
    """
    return bool(
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )


CONV = {2: Conv2d, 3: Conv3d}
CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
Dimensions = Literal[2, 3]


class ConvBlock(nn.Module):
    """A convolution with kernel size 3, GroupNorm and ReLU."""

    def __init__(
        self, dims: Dimensions, channels_in: int, channels_out: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = CONV[dims](channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm = GroupNorm(channels_out)

    def forward(self, values: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d *small"]:
        """Apply the block; the size is divided by the stride."""
        return relu(self.norm(self.conv(values)))


class ResidualBlock(nn.Module):
    """Two convolutions with an identity shortcut (He et al. 2016)."""

    def __init__(self, dims: Dimensions, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(dims, channels, channels)
        self.second = CONV[dims](channels, channels, 3, padding=1, bias=False)
        self.norm = GroupNorm(channels)

    def forward(self, values: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """Apply the block; the size stays the same."""
        return relu(values + self.norm(self.second(self.first(values))))
