"""Float32 where bf16 autocast is too coarse or cannot be trusted."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

# oneDNN's bf16 weight gradients of padded convolutions read uninitialised memory when a side is
# this short (seen: 3D with 2 planes, 2D with stride 2 on one pixel; torch 2.13, AVX-512).
SHORT_SIDE = 2
Precision = Literal["fp32", "bf16"]
P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with autocast off: bf16 has 8 bits, a ray or a pose needs all 24."""

    @functools.wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return exact


def mixed_precision(device: torch.device, fits: bool) -> torch.autocast:
    """Return a context in which a trained network runs in bf16 where the processor has it.

    What is emulated (on CPUs without AVX-512 BF16) would be slower.

    Args:
        device: Device of the network.
        fits: Whether the network is as good in bf16.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=fits and has_bf16(device))


def has_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bf16 itself; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return False


def usable_precision(wanted: Precision, device: torch.device | str) -> Precision:
    """Return the precision to compute in: the wanted one, but fp32 where bf16 is emulated."""
    return wanted if has_bf16(torch.device(device)) else "fp32"


@contextmanager
def reliable_convolution(values: Tensor) -> Iterator[Tensor]:
    """Yield a convolution's input, in float32 where its bf16 gradients are wrong on a CPU."""
    if values.device.type != "cpu" or min(values.shape[2:]) > SHORT_SIDE:
        yield values
    else:
        with torch.autocast("cpu", enabled=False):
            yield values.float()
