"""Gradients of convolutions in bf16 (see layers/precision.py), and of sampling at NaN."""

from typing import Literal

import pytest
import torch

from recon.model.layers.convolutions import CONV, ResidualBlock
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


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)]
)
def test_blocks_keep_channels_last_and_the_values(
    dims: Literal[2, 3], layout: torch.memory_format, half: bool
) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(dims, 16)
    values = torch.randn(2, 16, *(6, 5, 4)[:dims]).contiguous(memory_format=layout)
    conv = block.second
    plain = (torch.conv2d, torch.conv3d)[dims - 2](values, conv.weight, padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        found, convolved = block(values), conv(values)
    assert found.is_contiguous(memory_format=layout)
    assert torch.allclose(convolved.float(), plain, atol=0.05 if half else 1e-5)


def test_sampling_at_nan_does_not_write_out_of_bounds() -> None:
    images = torch.rand(1, 2, 4, 4, requires_grad=True)
    pixels = torch.full((1, 3, 3, 2), float("nan"))
    pixels[0, 0] = 2.0
    pixels.requires_grad_()
    found = sample(images, pixels)
    found.sum().backward()
    assert bool(torch.isfinite(found).all())
    assert images.grad is not None and bool(torch.isfinite(images.grad).all())
