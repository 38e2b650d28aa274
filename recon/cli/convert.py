"""`recon convert SCENE -o OUT`: convert a scene to another format."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput
from recon.cli.outputs import check_outputs, expected_bytes
from recon.errors import ReconError
from recon.reporting import (
    megabytes,
    prints_json,
    progress_reporter,
    report,
    shown_size,
)


@dataclass(frozen=True)
class Convert:
    """Convert a scene file to another format."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """Scene file to write; the extension selects the format."""
    sh_degree: Annotated[int | None, Arg(metavar="DEGREE")] = None
    """Drop spherical harmonics above this degree (0 to 4)."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a summary line, or write it to FILE."""

    def run(self) -> None:
        """Convert in chunks, so that PLY and .splat files of any size need little memory."""
        from dataclasses import replace

        from recon.files import check_space
        from recon.formats import format_of, open_scene, write_scene

        started = time.perf_counter()
        if self.sh_degree is not None and not 0 <= self.sh_degree <= 4:
            raise ReconError(f"--sh-degree must be from 0 to 4, found {self.sh_degree}")
        scene_format = format_of(self.output)
        check_outputs(
            {"-o": self.output, "--json": self.json}, inputs=[self.scene], force=self.force
        )
        source = open_scene(self.scene)
        before = source.sh_degree
        if self.sh_degree is not None:
            source = source.cut_to(self.sh_degree)
        degree = min(source.sh_degree, scene_format.max_sh_degree)
        check_space(self.output, expected_bytes(self.output, source.count, degree))
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            write_scene(self.output, replace(source, report=lambda d: progress("converting", d)))
        summary = {
            "output": str(self.output),
            "gaussians": source.count,
            "sh_degree": degree,
            "sh_degree_before": before,
            "megabytes": round(megabytes(self.output), 3),
            "seconds": round(time.perf_counter() - started, 2),
        }
        lost = f" ({before} before)" if degree < before else ""
        line = (
            f"wrote {self.output}: {source.count:,} Gaussians, SH degree {degree}{lost}, "
            f"{shown_size(megabytes(self.output))}, {summary['seconds']:.1f} s"
        )
        report(line, summary, self.json, self.quiet)
