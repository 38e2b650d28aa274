"""`recon bench raster|model`: measure the speed of this machine."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from recon.cli.arguments import Arg, JsonOutput, UsageError, refuse_idle
from recon.reporting import check_json, prints_json, progress_reporter, say, write_json

# Fields that one of the two measurements has alone.
RASTER_ONLY = ("scenes", "degrees")
MODEL_ONLY = ("networks", "side", "views", "batch", "device", "precision")


@dataclass(frozen=True)
class Bench:
    """Measure the speed of the rasterizer or of networks on synthetic scenes."""

    what: Annotated[Literal["raster", "model"], Arg(positional=True)] = "raster"
    """raster: the CPU rasterizer, forward and backward; model: networks, inference and training."""
    scenes: Annotated[
        tuple[Literal["s1", "s2", "s3"], ...], Arg(title="Options of recon bench raster")
    ] = ("s1", "s2", "s3")
    """Scenes: 131 k Gaussians at 256x256, 262 k at 512x512, 1 M at 960x540."""
    degrees: tuple[Literal[0, 1, 2, 3, 4], ...] = (0, 3)
    """SH degrees of the colours."""
    networks: Annotated[
        tuple[str, ...], Arg(metavar="NAME:SIZE", title="Options of recon bench model")
    ] = ("cost-volume:base", "gs-lrm:small", "epipolar:small")
    """Networks and their sizes."""
    side: Annotated[int, Arg(metavar="PX")] = 256
    """Side of the square images in pixels."""
    views: int = 2
    """Number of context views."""
    batch: int = 1
    """Batch size (scenes per training step)."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device to run on."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Precision of the network; fp32 where the processor emulates bf16."""
    repeats: Annotated[int, Arg(title="Options")] = 9
    """Number of measurements of each case; the median is reported."""
    json: JsonOutput = None
    """Print all results as one JSON object instead of the table, or write them to FILE as well."""
    quiet: bool = False
    """Print warnings, errors and the table only."""

    def run(self) -> None:
        """Measure, and print a table or one JSON object."""
        for name in ("repeats", "side", "views", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, found {getattr(self, name)}")
        others = RASTER_ONLY if self.what == "model" else MODEL_ONLY
        refuse_idle(self, others, f"on recon bench {self.what}")
        check_json(self.json, is_result=True)
        results = self._measured()
        if self.json is not None:
            write_json(results, self.json)
        if not prints_json(self.json):
            say(_raster_table(results) if self.what == "raster" else model_table(results))

    def _measured(self) -> dict[str, Any]:
        if self.what == "raster":
            from training.benchmarks.raster import bench_raster

            with progress_reporter(self.quiet or prints_json(self.json)) as progress:
                return bench_raster(
                    self.scenes, self.degrees, self.repeats, lambda stage: progress(stage, 0.0)
                )
        from training.benchmarks.model import bench_model, check_device, parse_case

        check_device(self.device)
        cases = [parse_case(n, self.side, self.views, self.batch) for n in self.networks]
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            return bench_model(
                cases,
                self.device,
                self.precision,
                self.repeats,
                lambda stage: progress(stage, 0.0),
            )


def _raster_table(results: dict[str, Any]) -> str:
    """Return the results as text: one row per scene, degree and number of threads."""
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
    """Return the results as text: one row per network."""
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
