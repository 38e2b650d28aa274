"""`recon bench model`: speed of inference and training of networks on this machine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recon.errors import ConfigError
from recon.model.api import ViewBatch
from recon.model.inference import run_network
from recon.model.layers.precision import Precision, usable_precision
from recon.model.registry import build_network, named_size
from render import Cameras
from render.cameras import look_at
from training.config import OptimiserConfig
from training.data.types import Batch
from training.losses import LossConfig, configured_losses
from training.step import batch_losses, build_optimiser

NEAR, FAR = 2.0, 12.0
# Distance of the cameras from the origin.
RADIUS = 5.0
# Side of the matrices whose product gives the machine's peak.
PEAK_SIDE = {"cpu": 1024, "cuda": 8192}
WARM_UP_ROUNDS = 2


@dataclass(frozen=True)
class ModelCase:
    """A network and the input that it is timed on."""

    network: str = "cost-volume"
    size: str = "base"
    views: int = 2
    """Number of context views."""
    side: int = 256
    """Side of the images (px)."""
    batch: int = 1
    """Batch size: scenes per training step."""
    train: bool = True
    """Also time training."""
    recompute: bool = False
    """Recompute activations in the backward pass."""


def parse_case(text: str, side: int, views: int, batch: int) -> ModelCase:
    """Parse `network` or `network:size`; raise ConfigError if there is none of that name."""
    network, _, size = text.partition(":")
    named_size(network, size or "base")
    return ModelCase(network, size or "base", views, side, batch)


def bench_model(
    cases: list[ModelCase],
    device: str,
    precision: Precision,
    repeats: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Time inference and training steps of networks.

    A training step is the `Trainer`'s, with its default losses on the context views: forward
    pass, rendering, losses, backward pass, optimiser. Utilisation counts three times the forward
    pass's matrix products per step.

    Args:
        cases: Networks and inputs.
        device: cpu or cuda.
        precision: Precision; fp32 instead of bf16 where that is emulated.
        repeats: Number of timings; medians are returned.
        report: Receives the name of each part before it is timed.
    """
    precision = usable_precision(precision, device)
    report("peak of matrix products")
    peak = matmul_peak(device, precision)
    results: dict[str, Any] = {
        "torch": torch.__version__,
        "device": device,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "peak_tflops": peak / 1e12,
        "rows": [],
    }
    for case in cases:
        report(f"{case.network} {case.size}")
        results["rows"].append(_row(case, device, precision, repeats, peak))
    return results


def matmul_peak(device: str, precision: str) -> float:
    """Measure the floating-point operations per second of a large matrix product."""
    side = PEAK_SIDE[torch.device(device).type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _seconds(lambda: a @ a, device, 7)


def count_flops(network: nn.Module, batch: ViewBatch) -> int:
    """Count the operations of one forward pass: by the network itself, else by torch's counter.

    Torch's counter needs the slowest attention kernel, so a network's own count is preferred.
    """
    own: Callable[[int, int, int], int] | None = getattr(network, "flops", None)
    views, (height, width) = batch.images.shape[1], batch.images.shape[-2:]
    if own is not None:
        return own(views, height, width)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run_network(network, batch)
    flops: int = counter.get_total_flops()
    return flops


def _row(case: ModelCase, device: str, precision: str, repeats: int, peak: float) -> dict[str, Any]:
    config = named_size(case.network, case.size)
    torch.manual_seed(0)
    network = build_network(case.network, replace(config, recompute=case.recompute)).to(device)
    one, many = (noise_batch(case, count, device) for count in (1, case.batch))
    flops = count_flops(network, one.context)

    def infer() -> object:
        with torch.no_grad(), _autocast(device, precision):
            return run_network(network, one.context)

    seconds = _seconds(infer, device, repeats)
    row: dict[str, Any] = {
        **vars(case),
        "parameters": sum(p.numel() for p in network.parameters()),
        "gflops": flops / 1e9,
        "inference_ms": 1e3 * seconds,
        "inference_utilisation": flops / seconds / peak,
    }
    if case.train:
        step = _training_step(network.train(), many, device, precision)
        seconds = _seconds(step, device, repeats)
        row["training_samples_per_s"] = case.batch / seconds
        row["training_utilisation"] = 3 * flops * case.batch / seconds / peak
    if device.startswith("cuda"):
        row["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
    return row


def _training_step(
    network: nn.Module, batch: Batch, device: str, precision: str
) -> Callable[[], object]:
    optimiser = build_optimiser(network, OptimiserConfig(lr=1e-5))
    config = LossConfig()
    losses = configured_losses(config)

    def step() -> None:
        optimiser.zero_grad()
        values = batch_losses(network, batch, losses, config, _autocast(device, precision))
        values["total"].backward()
        optimiser.step()

    return step


def _autocast(device: str, precision: str) -> torch.autocast:
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def noise_batch(case: ModelCase, scenes: int, device: str) -> Batch:
    """Make noise images with cameras on an arc around the origin, at their depth from it."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.linspace(-0.3, 0.3, case.views)
    positions = RADIUS * torch.stack(
        [angles.sin(), -angles.cos(), torch.full_like(angles, 0.2)], -1
    )
    viewmats = torch.stack([look_at(position, torch.zeros(3)) for position in positions])
    focal, half = 0.9 * case.side, case.side / 2
    K = torch.tensor([[focal, 0, half], [0, focal, half], [0, 0, 1]])
    shape = (scenes, case.views)
    cameras = Cameras(
        viewmats.expand(*shape, 4, 4).clone(), K.repeat(*shape, 1, 1), case.side, case.side
    ).to(device)
    size = (case.side, case.side)
    images = torch.rand(*shape, 3, *size, generator=generator).to(device)
    near, far = (torch.full(shape, depth, device=device) for depth in (NEAR, FAR))
    context = ViewBatch(images, cameras, near, far)
    return Batch(context, cameras, images, torch.full((*shape, *size), RADIUS, device=device))


def _seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Measure the median time of a function after some rounds of warm-up."""
    samples = []
    for repeat in range(repeats + WARM_UP_ROUNDS):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if repeat >= WARM_UP_ROUNDS:
            samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def check_device(device: str) -> None:
    """Raise ConfigError if there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: torch sees no CUDA GPU; use cpu", "device")
