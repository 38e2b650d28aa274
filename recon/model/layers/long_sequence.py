"""Layers for many views, whose cost is linear in their number."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from recon.model.layers.attention import AttentionBackend, Block, attend
from recon.model.layers.norms import LayerNorm, RMSNorm
from recon.model.layers.precision import full_precision


class LinearAttention(nn.Module):
    """Attention of all tokens to all tokens in linear time.

    Queries are normalised over their channels and keys over the tokens, so that the product of
    keys and values, of a fixed size, is computed first (Shen et al., "Efficient Attention", WACV
    2021, eq. 4). The order of the tokens has no influence.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm = RMSNorm(width // heads)

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token read the summary of all tokens."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        summary = _normalised(k, -2).to(v.dtype).transpose(-2, -1) @ v
        read = self.norm(_normalised(q, -1).to(v.dtype) @ summary)
        out: Tensor = self.out(read.transpose(1, 2).flatten(-2))
        return out


@full_precision
def _normalised(values: Float[Tensor, "*b n d"], dim: int) -> Float[Tensor, "*b n d"]:
    """Compute the softmax along a dimension, in float32: there may be 100,000 tokens."""
    return values.softmax(dim)


class LinearBlock(Block):
    """A transformer block with linear attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, qk_norm=False, backend="sdpa")
        self.attention = LinearAttention(width, heads)


class CrossAttention(nn.Module):
    """Adds to tokens what they read from other tokens, by multi-head attention."""

    def __init__(self, width: int, heads: int, backend: AttentionBackend) -> None:
        super().__init__()
        self.heads, self.backend = heads, backend
        self.norm, self.norm_other = LayerNorm(width), LayerNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, tokens: Float[Tensor, "b n c"], other: Float[Tensor, "b m c"]
    ) -> Float[Tensor, "b n c"]:
        """Return what is read, without the tokens themselves."""
        q = self.q(self.norm(tokens)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        kv = self.kv(self.norm_other(other)).unflatten(-1, (2, self.heads, -1))
        k, v = kv.permute(2, 0, 3, 1, 4)
        out: Tensor = self.out(attend(q, k, v, self.backend).transpose(1, 2).flatten(-2))
        return out


class MergeTokens(nn.Module):
    """Merges 2x2 neighbouring tokens of an image to one (Long-LRM, Ziwen et al. 2024)."""

    def __init__(self, width: int, merged: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * width)
        self.project = nn.Linear(4 * width, merged, bias=False)

    def forward(self, tokens: Float[Tensor, "b n c"], rows: int) -> Float[Tensor, "b m d"]:
        """Return a quarter of the tokens of images with an even number of rows and columns."""
        b, n, c = tokens.shape
        grid = tokens.reshape(b, rows // 2, 2, n // rows // 2, 2, c)
        merged: Tensor = self.project(self.norm(grid.transpose(2, 3).reshape(b, n // 4, 4 * c)))
        return merged


class SplitTokens(nn.Module):
    """Splits each token of an image to 2x2: the inverse of `MergeTokens`."""

    def __init__(self, merged: int, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(merged)
        self.project = nn.Linear(merged, 4 * width, bias=False)

    def forward(self, tokens: Float[Tensor, "b m d"], rows: int) -> Float[Tensor, "b n c"]:
        """Return four times as many tokens; `rows` is their number of rows."""
        b, m, _ = tokens.shape
        split: Tensor = self.project(self.norm(tokens))
        split = split.reshape(b, rows // 2, 2 * m // rows, 2, 2, -1)
        return split.transpose(2, 3).reshape(b, 4 * m, -1)


def anchor_views(
    positions: Float[Tensor, "b v 3"], count: int
) -> tuple[Int[Tensor, "b k"], Int[Tensor, "b v"]]:
    """Choose views that are far from each other, and the nearest of them for every view.

    Farthest point sampling of the positions of the cameras, from the first view on (ZPressor, Wang
    et al. 2025, section 3.2).

    Args:
        positions: Positions of the cameras.
        count: Number of views to choose, at most all.

    Returns:
        Indices of the chosen views, and for every view the index of its view among the chosen.
    """
    chosen = torch.zeros_like(positions[:, :1, 0], dtype=torch.long)
    distances = (positions - positions[:, :1]).norm(dim=-1)[:, :, None]
    for _ in range(min(count, positions.shape[1]) - 1):
        left = distances.amin(-1).scatter(1, chosen, -1.0)
        farthest = left.argmax(1, keepdim=True)
        chosen = torch.cat([chosen, farthest], 1)
        position = positions.gather(1, farthest[..., None].expand(-1, -1, 3))
        distances = torch.cat([distances, (positions - position).norm(dim=-1)[:, :, None]], -1)
    # An anchor is its own, even if another camera stands at the same position.
    own = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
    return chosen, distances.argmin(-1).scatter(1, chosen, own)
