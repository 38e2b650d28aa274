"""Normalisation layers without bias that compute in float32 and keep the dtype they get."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Ba et al. 2016, without bias."""

    def __init__(self, width: int) -> None:
        super().__init__(width, bias=False)

    def forward(self, values: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Over the last axis."""
        with torch.autocast(values.device.type, enabled=False):
            normed = nn.functional.layer_norm(
                values.float(), self.normalized_shape, self.weight, None, self.eps
            )
        return normed.to(values.dtype)


class RMSNorm(nn.RMSNorm):
    """Zhang and Sennrich 2019."""

    def forward(self, values: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Over the last axis."""
        with torch.autocast(values.device.type, enabled=False):
            normed = nn.functional.rms_norm(
                values.float(), self.normalized_shape, self.weight, self.eps
            )
        return normed.to(values.dtype)
