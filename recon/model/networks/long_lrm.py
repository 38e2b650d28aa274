"""The network `long-lrm`: a transformer whose cost is linear in the number of views.

After Long-LRM (Ziwen et al. 2024) and MVP (Kang et al. 2025): few blocks see fine tokens of one
view each, most see merged tokens, and those that see all views do so in linear time.
    images + Plücker rays [b v 9 h w] -> tokens [b v n d] -> blocks within views -> 2x2 merged
    [b v n/4 D] -> blocks within views and over all views in turn -> split, added to the fine tokens
    -> blocks within views -> raw channels per pixel -> Gaussians
Linear attention stands in for Long-LRM's Mamba2, whose result depends on the order of the views.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.layers.attention import AttentionBackend, Block, Trunk, run_block
from recon.model.layers.long_sequence import (
    CrossAttention,
    LinearBlock,
    MergeTokens,
    SplitTokens,
    anchor_views,
)
from recon.model.layers.tokens import Patchify, Unpatchify, plucker_rays
from recon.model.networks.gs_lrm import INIT_STD, INPUT_CHANNELS


@dataclass(frozen=True)
class LongLrmConfig:
    """Shape of the network; the defaults are the small size."""

    width: int = 192
    """Channels of a fine token."""
    merged_width: int = 384
    """Channels of a merged token."""
    fine_layers: int = 1
    """Blocks over fine tokens before they are merged, and as many after they are split."""
    layers: int = 6
    """Blocks within views, and as many over all views, of merged tokens."""
    heads: int = 6
    """Attention heads."""
    patch: int = 8
    """Side of the patch of a fine token (px)."""
    anchors: int = 0
    """View compression (ZPressor, Wang et al. 2025): the tokens of all views are written into those
    of this many anchor views, and the blocks over all views see the anchors only, by softmax
    attention; 0 disables it. Unlike in ZPressor, all views read from their anchor and give
    Gaussians."""
    attention: AttentionBackend = "sdpa"
    """sdpa: PyTorch's own; xformers: CUDA only; auto: xformers where it can be used."""
    recompute: bool = False
    """Recompute activations in the backward pass, to save memory."""
    head: GaussianHeadConfig = field(default_factory=GaussianHeadConfig)
    """Activations."""


SIZES = {
    "tiny": LongLrmConfig(width=64, merged_width=128, layers=2, heads=4),
    "small": LongLrmConfig(),
    "base": LongLrmConfig(width=384, merged_width=768, fine_layers=2, layers=10, heads=12),
}


class LongLrmNetwork(nn.Module):
    """Maps a normalised batch of any number of views and any image size to Gaussians."""

    def __init__(self, config: LongLrmConfig) -> None:
        super().__init__()
        self.config = config
        c, width, merged = config, config.width, config.merged_width
        self.patchify = Patchify(c.patch, INPUT_CHANNELS, width)
        fine = (c.fine_layers, width, c.heads, True, c.attention, c.recompute)
        self.fine, self.last = Trunk(*fine), Trunk(*fine)
        self.merge, self.split = MergeTokens(width, merged), SplitTokens(merged, width)
        self.within = nn.ModuleList(
            Block(merged, c.heads, True, c.attention) for _ in range(c.layers)
        )
        self.across = nn.ModuleList(
            Block(merged, c.heads, True, c.attention) if c.anchors else LinearBlock(merged, c.heads)
            for _ in range(c.layers)
        )
        if c.anchors:
            self.write = CrossAttention(merged, c.heads, c.attention)
            self.read = CrossAttention(merged, c.heads, c.attention)
        self.unpatchify = Unpatchify(c.patch, c.head.channels, width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Predict Gaussians in the frame of the batch's cameras."""
        height, width = batch.images.shape[-2:]
        scenes, views = batch.images.shape[:2]
        padded = batch.padded(2 * self.config.patch)
        rays = plucker_rays(padded.cameras)
        tokens = self.patchify(torch.cat([2 * padded.images - 1, rays], 2))
        size = padded.images.shape[-2:]
        rows = size[0] // self.config.patch
        fine = self.fine(tokens.reshape(scenes * views, -1, self.config.width))
        merged = self.merge(fine, rows).unflatten(0, (scenes, views))
        mixed = self._mixed(merged, batch).flatten(0, 1)
        tokens = self.last(fine + self.split(mixed, rows)).reshape(tokens.shape)
        raw = self.unpatchify(tokens, views, *size)
        return activate(raw[:, :, :height, :width], batch, self.config.head)

    def _mixed(
        self, tokens: Float[Tensor, "b v m d"], batch: ViewBatch
    ) -> Float[Tensor, "b v m d"]:
        """Apply the blocks within views and over all views."""
        if self.config.anchors:
            return self._mixed_by_anchors(tokens, batch)
        shape, recompute = tokens.shape, self.config.recompute
        for within, across in zip(self.within, self.across, strict=True):
            tokens = run_block(within, tokens.reshape(-1, *shape[2:]), recompute)
            tokens = run_block(across, tokens.reshape(shape[0], -1, shape[3]), recompute)
        return tokens.reshape(shape)

    def _mixed_by_anchors(
        self, tokens: Float[Tensor, "b v m d"], batch: ViewBatch
    ) -> Float[Tensor, "b v m d"]:
        shape, recompute = tokens.shape, self.config.recompute
        flat = tokens.flatten(0, 1)
        for within in self.within:
            flat = run_block(within, flat, recompute)
        tokens = flat.reshape(shape)
        chosen, nearest = anchor_views(batch.cameras.c2w[..., :3, 3], self.config.anchors)
        scene = torch.arange(shape[0], device=tokens.device)[:, None]
        anchors = tokens[scene, chosen]
        # Each anchor reads every view that is near it; the mean of what it reads is added.
        found = self.write(anchors[scene, nearest].flatten(0, 1), flat).reshape(shape)
        index = nearest[..., None, None].expand(shape)
        anchors = anchors + torch.zeros_like(anchors).scatter_reduce(
            1, index, found.to(anchors.dtype), "mean", include_self=False
        )
        mixed = anchors.flatten(1, 2)
        for across in self.across:
            mixed = run_block(across, mixed, recompute)
        anchors = mixed.reshape(anchors.shape)
        read: Tensor = self.read(flat, anchors[scene, nearest].flatten(0, 1))
        return (flat + read).reshape(shape)

    def flops(self, views: int, height: int, width: int) -> int:
        """Count the floating-point operations of one forward pass over one scene.

        Only matrix products count; a multiply-add counts as two.
        """
        c, d, D = self.config, self.config.width, self.config.merged_width
        m = views * -(-height // (2 * c.patch)) * -(-width // (2 * c.patch))
        n = 4 * m
        ends = 2 * n * c.patch**2 * (INPUT_CHANNELS + c.head.channels) * d
        fine = 2 * c.fine_layers * (24 * n * d * d + 4 * n * (n // views) * d)
        change = 2 * 2 * m * 4 * d * D
        within = c.layers * (24 * m * D * D + 4 * m * (m // views) * D)
        if not c.anchors:
            across = c.layers * (24 * m * D * D + 4 * m * D * (D // c.heads))
            return ends + fine + change + within + across
        a = min(c.anchors, views) * (m // views)
        across = c.layers * (24 * a * D * D + 4 * a * a * D)
        # Queries and output, keys and values, of each token of each view.
        exchange = 2 * (2 * m * 4 * D * D + 4 * m * (m // views) * D)
        return ends + fine + change + within + across + exchange
