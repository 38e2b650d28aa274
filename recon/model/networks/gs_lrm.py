"""The network `gs-lrm`: a plain transformer from posed images to one Gaussian per pixel.

Zhang et al., "GS-LRM: Large Reconstruction Model for 3D Gaussian Splatting" (ECCV 2024).
    images + Plücker rays [b v 9 h w] -> patches -> tokens [b, v h w / p^2, d]
    -> L blocks of self-attention over all views -> linear -> raw channels per pixel -> Gaussians
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.layers.attention import AttentionBackend, Trunk
from recon.model.layers.tokens import Patchify, Unpatchify, plucker_rays

INPUT_CHANNELS = 9  # colour 3, ray 6
INIT_STD = 0.02


@dataclass(frozen=True)
class GsLrmConfig:
    """Shape of the network; the defaults are the small size."""

    width: int = 384
    """Channels of a token."""
    layers: int = 12
    """Transformer blocks."""
    heads: int = 6
    """Attention heads."""
    patch: int = 8
    """Side of a patch (px)."""
    qk_norm: bool = True
    """Normalise queries and keys, for stable training."""
    attention: AttentionBackend = "sdpa"
    """sdpa: PyTorch's own; xformers: CUDA only; auto: xformers where it can be used."""
    recompute: bool = False
    """Recompute activations in the backward pass, to save memory."""
    head: GaussianHeadConfig = field(default_factory=GaussianHeadConfig)
    """Activations."""


# The paper's choices where they differ from our defaults.
PAPER_HEAD = GaussianHeadConfig(
    color="predicted", depth="linear", scale="absolute", opacity_bias=-2.0
)
SIZES = {
    "tiny": GsLrmConfig(width=128, layers=4, heads=4),
    "small": GsLrmConfig(),
    "base": GsLrmConfig(width=768, layers=12, heads=12),
    "paper": GsLrmConfig(width=1024, layers=24, heads=16, head=PAPER_HEAD),
}


class GsLrmNetwork(nn.Module):
    """Maps a normalised batch of any number of views and any image size to Gaussians."""

    def __init__(self, config: GsLrmConfig) -> None:
        super().__init__()
        self.config = config
        self.patchify = Patchify(config.patch, INPUT_CHANNELS, config.width)
        self.trunk = Trunk(
            config.layers,
            config.width,
            config.heads,
            config.qk_norm,
            config.attention,
            config.recompute,
        )
        self.unpatchify = Unpatchify(config.patch, config.head.channels, config.width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Predict Gaussians in the frame of the batch's cameras."""
        height, width = batch.images.shape[-2:]
        padded = batch.padded(self.config.patch)
        rays = plucker_rays(padded.cameras)
        tokens = self.patchify(torch.cat([2 * padded.images - 1, rays], 2))
        size = padded.images.shape[-2:]
        raw = self.unpatchify(self.trunk(tokens), batch.images.shape[1], *size)
        return activate(raw[:, :, :height, :width], batch, self.config.head)

    def flops(self, views: int, height: int, width: int) -> int:
        """Count the floating-point operations of one forward pass over one scene.

        Only matrix products count; a multiply-add counts as two.
        """
        c, d = self.config, self.config.width
        tokens = views * -(-height // c.patch) * -(-width // c.patch)
        block = 2 * tokens * 12 * d * d + 4 * tokens * tokens * d
        ends = 2 * tokens * c.patch**2 * (INPUT_CHANNELS + c.head.channels) * d
        return c.layers * block + ends
