"""Normalisation layers that compute in float32 and keep the dtype of their input."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import group_norm

CHANNELS_PER_GROUP = 8


class LayerNorm(nn.LayerNorm):
    """LayerNorm without bias over the last axis (Ba et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, bias=False)

    def forward(self, values: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalise the last axis."""
        with torch.autocast(values.device.type, enabled=False):
            normed = nn.functional.layer_norm(
                values.float(), self.normalized_shape, self.weight, None, self.eps
            )
        return normed.to(values.dtype)


class RMSNorm(nn.RMSNorm):
    """RMSNorm over the last axis (Zhang and Sennrich 2019)."""

    def forward(self, values: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalise the last axis."""
        with torch.autocast(values.device.type, enabled=False):
            normed = nn.functional.rms_norm(
                values.float(), list(self.normalized_shape), self.weight, self.eps
            )
        return normed.to(values.dtype)


class GroupNorm(nn.GroupNorm):
    """GroupNorm in groups of 8 channels (Wu and He 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__(max(1, channels // CHANNELS_PER_GROUP), channels)

    def forward(self, values: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """Normalise over the size and the channels of each group."""
        with torch.autocast(values.device.type, enabled=False):
            if values.device.type == "cpu":  # its kernel takes both precisions at once
                return group_norm(values, self.num_groups, self.weight, self.bias, self.eps)
            normed = group_norm(values.float(), self.num_groups, self.weight, self.bias, self.eps)
        return normed.to(values.dtype)
