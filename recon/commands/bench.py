"""`recon bench raster`: how fast this machine renders."""

import json as json_module
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from recon.commands.output import progress_reporter, say
from recon.errors import ReconError


@dataclass(frozen=True)
class Bench:
    """Time a part of recon on scenes of our own making."""

    what: tyro.conf.Positional[Literal["raster"]] = "raster"
    """Which part: the CPU rasterizer, forward and backward."""
    scenes: tuple[Literal["s1", "s2", "s3"], ...] = ("s1", "s2", "s3")
    """131 k Gaussians at 256x256, 262 k at 512x512, 1 M at 960x540."""
    degrees: tuple[Literal[0, 1, 2, 3, 4], ...] = (0, 3)
    """SH degrees of the colours."""
    repeats: int = 9
    """Timings of each thing; medians are reported."""
    json: Path | None = None
    """Also write all numbers as JSON (file; - or nothing: standard output, and only that)."""
    quiet: bool = False
    """Print nothing but errors and the table."""

    def run(self) -> None:
        """Print a table, or one JSON object."""
        from recon.files import atomic_output, check_output

        if self.repeats < 1:
            raise ReconError(f"--repeats must be at least 1, found {self.repeats}")
        to_stdout = self.json is not None and str(self.json) == "-"
        if self.json is not None and not to_stdout:
            check_output(self.json)
        from recon.bench.raster import bench_raster

        with progress_reporter(self.quiet) as progress:
            results = bench_raster(
                self.scenes, self.degrees, self.repeats, lambda stage: progress(stage, 0.0)
            )
        if to_stdout:
            say(json_module.dumps(results))
            return
        say(_table(results))
        if self.json is not None:
            with atomic_output(self.json) as temporary:
                temporary.write_text(json_module.dumps(results, indent=1) + "\n")


def _table(results: dict[str, Any]) -> str:
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
