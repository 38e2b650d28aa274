"""`recon bench raster`: the rasterizer's speed and memory on three scenes."""

import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from recon.errors import ReconError
from render import Cameras, Gaussians, measure_contributions, rasterize
from render.backends import native
from training.benchmarks.scenes import SCENES
from training.rendering import SETTINGS  # colours only, as gsplat is usually timed


@dataclass(frozen=True)
class Timing:
    """Median times of repeated calls."""

    cpu_ms: float
    """Processor time of all threads together (ms)."""
    wall_ms: float
    """Elapsed time (ms)."""

    @staticmethod
    def median(samples: list[tuple[float, float]]) -> "Timing":
        """Compute the medians of (processor, wall) seconds."""
        cpu, wall = zip(*samples, strict=True)
        return Timing(1e3 * statistics.median(cpu), 1e3 * statistics.median(wall))


class Case:
    """A scene to time: inputs that require gradients, and a gradient of the render."""

    def __init__(self, scene: Gaussians, cameras: Cameras) -> None:
        names = [f.name for f in fields(Gaussians)]
        self.inputs = [getattr(scene, name).clone().requires_grad_() for name in names]
        self.scene = Gaussians(**dict(zip(names, self.inputs, strict=True)))
        self.cameras = cameras
        shape = (1, 3, cameras.height, cameras.width)
        generator = torch.Generator().manual_seed(0)
        self.v_rgb = torch.randn(shape, generator=generator).to(scene.means)

    def forward(self, backend: str) -> Tensor:
        """Render without gradients."""
        with torch.no_grad():
            return rasterize(self.scene, self.cameras, settings=SETTINGS, backend=backend).rgb

    def both(self, backend: str) -> tuple[Tensor, ...]:
        """Render and return the image and the gradients of all inputs."""
        rgb = rasterize(self.scene, self.cameras, settings=SETTINGS, backend=backend).rgb
        return rgb, *torch.autograd.grad(rgb, self.inputs, self.v_rgb)


def bench_raster(
    scenes: tuple[str, ...], degrees: tuple[int, ...], repeats: int, report: Callable[[str], None]
) -> dict[str, Any]:
    """Time the rasterizer.

    Args:
        scenes: Names in `SCENES`.
        degrees: SH degrees of the colours.
        repeats: Number of timings; medians are returned.
        report: Receives the name of each part before it is timed.
    """
    all_threads = torch.get_num_threads()
    results: dict[str, Any] = {
        "torch": torch.__version__,
        "instruction_set": native.instruction_set(),
        "threads": all_threads,
        "rows": [],
    }
    try:
        for name in scenes:
            for degree in degrees:
                report(f"{name} at SH degree {degree}")
                scene, cameras = SCENES[name](degree)
                results["rows"] += _rows(name, degree, Case(scene, cameras), repeats, all_threads)
        if "s1" in scenes:
            report("s1 with the reference")
            results["reference_s1"] = against_reference(max(1, repeats // 3))
        if "s3" in scenes:
            report("memory of s3")
            results["memory_s3_mb"] = temporary_memory_mb("s3")
    finally:
        torch.set_num_threads(all_threads)
    return results


def _rows(
    name: str, degree: int, case: Case, repeats: int, all_threads: int
) -> list[dict[str, Any]]:
    """Time with one and with all threads, alternating, and return one row for each."""
    detached, threads = case.scene.detach(), sorted({1, all_threads})
    pairs = int(measure_contributions(detached, case.cameras, SETTINGS).hits.sum())
    samples: dict[tuple[int, str], list[tuple[float, float]]] = {}
    peaks: dict[int, list[float]] = {count: [] for count in threads}
    calls = {"forward": case.forward, "both": case.both}
    for repeat in range(repeats + 1):
        for count in threads:
            torch.set_num_threads(count)
            if repeat > 0:  # the first round only warms up
                peaks[count].append(native.load_library().recon_cpu_fma_peak(count))
            for name_of_call, function in calls.items():
                sample = _timed(functools.partial(function, "cpu"))
                if repeat > 0:
                    samples.setdefault((count, name_of_call), []).append(sample)
    rows = []
    for count in threads:
        forward, both = (Timing.median(samples[count, call]) for call in calls)
        rows.append(
            {
                "scene": name,
                "sh_degree": degree,
                "gaussians": len(detached),
                "pairs": pairs,
                "threads": count,
                "forward": vars(forward),
                "forward_backward": vars(both),
                "ns_per_pair": 1e6 * both.cpu_ms / pairs,
                "fma_peak_gflops": statistics.median(peaks[count]),
            }
        )
    return rows


def against_reference(rounds: int) -> dict[str, float]:
    """Time forward and backward pass of the float64 reference on s1, also relative to the kernel.

    It runs in a separate process: the command line keeps freed memory (see `recon.cli.main`),
    which saves the reference's hundreds of temporary tensors a third of their time.
    """
    result: dict[str, float] = json.loads(_in_new_process(f"_print_against_reference({rounds})"))
    return result


def _print_against_reference(rounds: int) -> None:
    scene, cameras = SCENES["s1"](0)
    fast = Case(scene, cameras)
    slow = Case(scene.to(torch.float64), cameras.to(torch.float64))
    ratios, walls = [], []
    for _ in range(rounds + 1):
        _, reference = _timed(lambda: slow.both("reference"))
        kernel = statistics.median(_timed(lambda: fast.both("cpu"))[1] for _ in range(5))
        ratios.append(reference / kernel)
        walls.append(reference)
    # The first round only warms up.
    result = {"wall_ms": 1e3 * statistics.median(walls[1:]), "ratio": statistics.median(ratios[1:])}
    sys.stdout.write(json.dumps(result))


def _in_new_process(call: str) -> str:
    code = f"from training.benchmarks import raster; raster.{call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ReconError(
            f"a measurement in a separate process failed: {lines[-1].strip()}; free some memory, "
            "or choose a smaller scene (--scenes s1)"
        )
    return done.stdout


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the (processor, wall) seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def temporary_memory_mb(name: str) -> float | None:
    """Measure the peak memory of both passes beyond inputs and outputs, in MB (10^6 bytes).

    It runs in a separate process, so that memory freed earlier is not reused unnoticed.
    None except on Linux: other systems cannot reset the peak.
    """
    if sys.platform != "linux":
        return None
    return float(_in_new_process(f"_print_temporary_memory({name!r})"))


def _print_temporary_memory(name: str) -> None:
    case = Case(*SCENES[name](0))
    small = Case(*SCENES["s1"](0))
    small.both("cpu")  # threads, libraries
    del small
    with open("/proc/self/clear_refs", "w") as handle:  # noqa: PTH123
        handle.write("5")  # resets the peak
    before = _status_bytes("VmRSS")
    outputs = case.both("cpu")
    peak = _status_bytes("VmHWM")
    kept = sum(t.numel() * t.element_size() for t in outputs)
    sys.stdout.write(f"{(peak - before - kept) / 1e6}{os.linesep}")


def _status_bytes(key: str) -> int:
    with open("/proc/self/status") as handle:  # noqa: PTH123
        line = next(line for line in handle if line.startswith(key + ":"))
    return 1024 * int(line.split()[1])
