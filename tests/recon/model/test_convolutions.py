"""Gradients of convolutions in bf16 (see layers/precision.py), and of sampling at NaN."""

import pytest
import torch

from recon.model.layers.convolutions import CONV
from recon.model.mvs.warp import sample


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(2, 4, 4), (1, 2, 2), (4, 5, 5), (1, 1), (2, 3), (4, 4)])
def test_bf16_gradients_are_those_of_float32(size: tuple[int, ...], stride: int) -> None:
    torch.manual_seed(0)
    conv = CONV[len(size)](16, 16, 3, stride, padding=1, bias=False)
    for _ in range(10):
        values, gradients = torch.randn(2, 16, *size), []
        # Freed memory full of NaN reveals reads of uninitialised memory.
        poison = [torch.full((n,), float("nan")) for n in (1000, 4000, 16000, 6912, 13824)]
        del poison
        for half in (False, True):
            conv.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                conv(values).float().square().sum().backward()
            assert conv.weight.grad is not None
            gradients.append(conv.weight.grad.clone())
        exact, found = gradients
        assert float((found - exact).norm() / exact.norm()) < 0.02


def test_sampling_at_nan_does_not_write_out_of_bounds() -> None:
    images = torch.rand(1, 2, 4, 4, requires_grad=True)
    pixels = torch.full((1, 3, 3, 2), float("nan"))
    pixels[0, 0] = 2.0
    pixels.requires_grad_()
    found = sample(images, pixels)
    found.sum().backward()
    assert bool(torch.isfinite(found).all())
    assert images.grad is not None and bool(torch.isfinite(images.grad).all())
