"""Attention and transformer blocks. The only file that may import xformers."""

import functools
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.errors import ConfigError, MissingDependency
from recon.model.layers.norms import LayerNorm, RMSNorm

AttentionBackend = Literal["sdpa", "xformers", "auto"]


def attend(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m d"],
    backend: AttentionBackend,
) -> Float[Tensor, "b h n d"]:
    """Compute softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, eq. 1).

    sdpa is torch's, which has kernels of FlashAttention itself; auto takes xformers where it is
    installed and the tensors are on a CUDA GPU, else sdpa.

    Raises:
        ReconError: xformers is chosen without a CUDA GPU, or it is not installed.
    """
    on_gpu = q.device.type == "cuda"
    if backend == "auto":
        backend = "xformers" if on_gpu and _efficient_attention() is not None else "sdpa"
    if backend == "sdpa":
        return nn.functional.scaled_dot_product_attention(q, k, v)
    if not on_gpu:
        raise ConfigError(
            f"attention 'xformers' needs a CUDA GPU, tensors are on {q.device}; use 'sdpa'",
            "attention",
        )
    if _efficient_attention() is None:
        raise MissingDependency(
            "attention 'xformers': it cannot be imported; pip install 'reconsplat[cuda]' or use "
            "'sdpa'"
        )
    return attend_by_xformers(q, k, v)


def attend_by_xformers(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    """Compute attention by xformers, whose tensors have the axes b n h d."""
    efficient = _efficient_attention()
    assert efficient is not None
    attended: Tensor = efficient(*(tensor.transpose(1, 2) for tensor in (q, k, v)))
    return attended.transpose(1, 2)


@functools.cache
def _efficient_attention() -> Callable[..., Tensor] | None:
    """Return xformers' function, or None where it is not installed or does not fit to torch."""
    try:
        from xformers.ops import memory_efficient_attention
    except (ImportError, OSError, RuntimeError):
        return None
    function: Callable[..., Tensor] = memory_efficient_attention
    return function


class Attention(nn.Module):
    """Multi-head self-attention without biases, optionally with QK-norm.

    QK-norm (Henry et al. 2020) is an RMSNorm per head, as in LVSM (Jin et al. 2024).
    """

    def __init__(self, width: int, heads: int, qk_norm: bool, backend: AttentionBackend) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads, self.backend = heads, backend
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        head = width // heads
        self.q_norm = RMSNorm(head) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head) if qk_norm else nn.Identity()

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Let every token attend to every token."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        attended = attend(q, k, v, self.backend).transpose(1, 2).flatten(-2)
        out: Tensor = self.out(attended)
        return out


class Block(nn.Module):
    """A pre-LayerNorm transformer block: attention, then an MLP four times as wide with GELU."""

    def __init__(self, width: int, heads: int, qk_norm: bool, backend: AttentionBackend) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attention: nn.Module = Attention(width, heads, qk_norm, backend)
        self.norm2 = LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Apply both parts, each with a residual connection."""
        tokens = tokens + self.attention(self.norm1(tokens))
        hidden: Tensor = self.mlp(self.norm2(tokens))
        return tokens + hidden


class Trunk(nn.Module):
    """A sequence of transformer blocks over the tokens of all views.

    Only their rays distinguish the views, so any number of them works, in any order.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        qk_norm: bool = True,
        backend: AttentionBackend = "sdpa",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.blocks = nn.ModuleList(Block(width, heads, qk_norm, backend) for _ in range(layers))

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Apply the blocks; with `recompute` the backward pass recomputes their activations."""
        for block in self.blocks:
            tokens = run_block(block, tokens, self.recompute)
        return tokens


def run_block(
    block: nn.Module, tokens: Float[Tensor, "b n c"], recompute: bool
) -> Float[Tensor, "b n c"]:
    """Apply a block; with `recompute` the backward pass recomputes its activations."""
    if recompute and torch.is_grad_enabled():
        recomputed: Tensor = checkpoint(block, tokens, use_reentrant=False)
        return recomputed
    out: Tensor = block(tokens)
    return out
