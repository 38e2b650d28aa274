"""`recon bench raster|model`: how fast this machine renders, and runs networks."""

import json as json_module
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from recon.errors import ReconError
from recon.reporting import progress_reporter, say


@dataclass(frozen=True)
class Bench:
    """Time a part of recon on scenes of our own making."""

    what: tyro.conf.Positional[Literal["raster", "model"]] = "raster"
    """raster: the CPU rasterizer, forward and backward; model: networks, answering and training."""
    scenes: tuple[Literal["s1", "s2", "s3"], ...] = ("s1", "s2", "s3")
    """raster: 131 k Gaussians at 256x256, 262 k at 512x512, 1 M at 960x540."""
    degrees: tuple[Literal[0, 1, 2, 3, 4], ...] = (0, 3)
    """raster: SH degrees of the colours."""
    networks: tuple[str, ...] = ("cost-volume:base", "gs-lrm:small", "epipolar:small")
    """model: networks by name:size."""
    side: int = 256
    """model: side of the pictures (px)."""
    views: int = 2
    """model: context views."""
    batch: int = 1
    """model: scenes a training step."""
    device: Literal["cpu", "cuda"] = "cpu"
    """model: where to run."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """model: of the network."""
    repeats: int = 9
    """Timings of each thing; medians are reported."""
    json: Path | None = None
    """Also write all numbers as JSON (file; - or nothing: standard output, and only that)."""
    quiet: bool = False
    """Print nothing but errors and the table."""

    def run(self) -> None:
        """Print a table, or one JSON object."""
        from recon.files import atomic_output, check_output

        for name in ("repeats", "side", "views", "batch"):
            if getattr(self, name) < 1:
                raise ReconError(f"--{name} must be at least 1, found {getattr(self, name)}")
        to_stdout = self.json is not None and str(self.json) == "-"
        if self.json is not None and not to_stdout:
            check_output(self.json)
        results = self._measured()
        if to_stdout:
            say(json_module.dumps(results))
            return
        say(_raster_table(results) if self.what == "raster" else model_table(results))
        if self.json is not None:
            with atomic_output(self.json) as temporary:
                temporary.write_text(json_module.dumps(results, indent=1) + "\n")

    def _measured(self) -> dict[str, Any]:
        if self.what == "raster":
            from recon.bench.raster import bench_raster

            with progress_reporter(self.quiet) as progress:
                return bench_raster(
                    self.scenes, self.degrees, self.repeats, lambda stage: progress(stage, 0.0)
                )
        from recon.bench.model import bench_model, check_device, parse_case

        check_device(self.device)
        cases = [parse_case(n, self.side, self.views, self.batch) for n in self.networks]
        with progress_reporter(self.quiet) as progress:
            return bench_model(
                cases,
                self.device,
                self.precision,
                self.repeats,
                lambda stage: progress(stage, 0.0),
            )


def _raster_table(results: dict[str, Any]) -> str:
    """The results as text: one row a scene, degree and number of threads."""
    lines = [
        f"CPU kernel {results['instruction_set']}, torch {results['torch']}; medians; "
        "ns/pair = processor time of forward and backward over pairs that contribute",
        "scene  SH  threads   pairs M   forward ms  fwd+bwd ms   cpu ms  ns/pair  FMA GFLOP/s",
    ]
    for row in results["rows"]:
        both = row["forward_backward"]
        lines.append(
            f"{row['scene']:<5} {row['sh_degree']:>3} {row['threads']:>8} "
            f"{row['pairs'] / 1e6:>9.2f} {row['forward']['wall_ms']:>12.1f} "
            f"{both['wall_ms']:>11.1f} {both['cpu_ms']:>8.1f} "
            f"{row['ns_per_pair']:>8.2f} {row['fma_peak_gflops']:>12.0f}"
        )
    if "reference_s1" in results:
        found = results["reference_s1"]
        lines.append(
            f"reference (torch, float64) on s1: {found['wall_ms']:.0f} ms forward and backward, "
            f"{found['ratio']:.0f} times the kernel's"
        )
    if results.get("memory_s3_mb") is not None:
        lines.append(
            f"memory of s3 beyond inputs and outputs: {results['memory_s3_mb']:.0f} MB at the peak"
        )
    return "\n".join(lines)


def model_table(results: dict[str, Any]) -> str:
    """The results as text: one row a network."""
    lines = [
        f"{results['device']}, {results['precision']}, torch {results['torch']}; medians; peak of "
        f"a matrix product {results['peak_tflops']:.2f} TFLOP/s; utilisation is of that",
        "network       size   views  side  params M   GFLOP  inference ms   util  "
        "train samples/s   util",
    ]
    for row in results["rows"]:
        line = (
            f"{row['network']:<13} {row['size']:<6} {row['views']:>5} {row['side']:>5} "
            f"{row['parameters'] / 1e6:>9.1f} {row['gflops']:>7.0f} {row['inference_ms']:>13.1f} "
            f"{row['inference_utilisation']:>6.0%}"
        )
        if row["train"]:
            rate, used = row["training_samples_per_s"], row["training_utilisation"]
            line += f" {rate:>16.2f} {used:>6.0%}"
        lines.append(line)
    return "\n".join(lines)
