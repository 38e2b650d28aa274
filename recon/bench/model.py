"""`recon bench model`: how fast networks answer and train on this machine."""

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
from recon.model.registry import build_network, named_size
from render import Cameras, RasterizeSettings, rasterize
from render.cameras import look_at

NEAR, FAR = 2.0, 12.0
SETTINGS = RasterizeSettings(render_mode="RGB")
# Side of the matrices whose product gives the machine's peak.
PEAK_SIDE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class ModelCase:
    """What is timed."""

    network: str = "cost-volume"
    size: str = "base"
    views: int = 2
    """Context views."""
    side: int = 256
    """Of the pictures (px)."""
    batch: int = 1
    """Scenes a training step."""
    train: bool = True
    """Time training, too."""
    recompute: bool = False
    """Compute blocks again in the backward pass."""


def parse_case(text: str, side: int, views: int, batch: int) -> ModelCase:
    """`network` or `network:size`; ReconError when there is none of that name."""
    network, _, size = text.partition(":")
    named_size(network, size or "base")
    return ModelCase(network, size or "base", views, side, batch)


def bench_model(
    cases: list[ModelCase],
    device: str,
    precision: str,
    repeats: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """All numbers of the benchmark; `report` is told what is being timed.

    A training step is forward, rendering of the context views, squared error, backward and
    AdamW. Utilisation counts three times the forward pass's matrix products a step.
    """
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
    """Floating point operations a second of a large matrix product."""
    side = PEAK_SIDE[torch.device(device).type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _seconds(lambda: a @ a, device, 7)


def flops_of(network: nn.Module, batch: ViewBatch) -> int:
    """Of the matrix products and convolutions of one forward pass, by torch's own counter."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run_network(network, batch)
    return counter.get_total_flops()


def _row(case: ModelCase, device: str, precision: str, repeats: int, peak: float) -> dict[str, Any]:
    config = named_size(case.network, case.size)
    torch.manual_seed(0)
    network = build_network(case.network, replace(config, recompute=case.recompute)).to(device)
    one, many = (_batch(case, count, device) for count in (1, case.batch))
    flops = _flops(network, one)

    def infer() -> object:
        with torch.no_grad(), _autocast(device, precision):
            return run_network(network, one)

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


def _flops(network: nn.Module, batch: ViewBatch) -> int:
    """The network's own count where it has one: torch's needs the slowest attention."""
    own = getattr(network, "flops", None)
    views, (height, width) = batch.images.shape[1], batch.images.shape[-2:]
    return own(views, height, width) if own is not None else flops_of(network, batch)


def _training_step(
    network: nn.Module, batch: ViewBatch, device: str, precision: str
) -> Callable[[], object]:
    adam = torch.optim.AdamW(network.parameters(), 1e-5, fused=device.startswith("cuda"))

    def step() -> None:
        with _autocast(device, precision):
            output = run_network(network, batch)
        shown = rasterize(output.gaussians, batch.cameras, settings=SETTINGS).rgb
        loss = (shown - batch.images).square().mean() + output.depth.log().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def _autocast(device: str, precision: str) -> torch.autocast:
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def _batch(case: ModelCase, scenes: int, device: str) -> ViewBatch:
    """Noise pictures from an arc around the origin."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.linspace(-0.3, 0.3, case.views)
    places = 5 * torch.stack([angles.sin(), -angles.cos(), torch.full_like(angles, 0.2)], -1)
    viewmats = torch.stack([look_at(place, torch.zeros(3)) for place in places])
    shape = (scenes, case.views)
    viewmats = viewmats.expand(*shape, 4, 4).clone()
    cameras = Cameras.from_focal(viewmats, 0.9 * case.side, case.side, case.side)
    images = torch.rand(*shape, 3, case.side, case.side, generator=generator)
    near = torch.full(shape, NEAR, device=device)
    far = torch.full(shape, FAR, device=device)
    return ViewBatch(images.to(device), cameras.to(device), near, far)


def _seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Median; the first two rounds only warm up."""
    samples = []
    for repeat in range(repeats + 2):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        if repeat >= 2:
            samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def check_device(device: str) -> None:
    """ReconError when there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda': torch sees no CUDA GPU; use device='cpu'", "device")
