"""Scalar products of a pixel's features with those of its points on many planes."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class GroupProduct(torch.autograd.Function):
    """sum over c of reference [m g c h w] x source [m g c d h w], for every plane d.

    Channel by channel: torch's own broadcast product writes, and in the backward pass expands,
    tensors c times as large, and a CPU waits for memory.
    """

    @staticmethod
    def forward(ctx, reference: Tensor, source: Tensor) -> Tensor:
        ctx.save_for_backward(reference, source)
        total = reference[:, :, 0, None] * source[:, :, 0]
        for c in range(1, reference.shape[2]):
            total.addcmul_(reference[:, :, c, None], source[:, :, c])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        reference, source = ctx.saved_tensors
        to_reference, to_source = torch.empty_like(reference), torch.empty_like(source)
        for c in range(reference.shape[2]):
            torch.mul(reference[:, :, c, None], grad, out=to_source[:, :, c])
            to_reference[:, :, c] = (source[:, :, c] * grad).sum(2)
        return to_reference, to_source
