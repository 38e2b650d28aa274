"""`recon convert SCENE -o OUT`: a scene in another format."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from recon.errors import ReconError
from recon.reporting import megabytes, progress_reporter, say, say_json, shown_size


@dataclass(frozen=True)
class Convert:
    """Write a scene in another format, chosen by the extension."""

    scene: tyro.conf.Positional[Path]
    """Scene file (.ply, .compressed.ply, .splat, .spz, .sog, .glb)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Scene file to write (the same formats)."""
    sh_degree: int | None = None
    """Leave out spherical harmonics above this degree (0 to 4)."""
    quiet: bool = False
    """Print nothing but errors."""
    json: bool = False
    """Print one JSON object instead of the closing line."""

    def run(self) -> None:
        """Part by part: PLY and .splat of any size fit into little memory."""
        from dataclasses import replace

        from recon.files import check_output
        from recon.formats import format_of, open_scene, write_scene

        started = time.perf_counter()
        if self.sh_degree is not None and not 0 <= self.sh_degree <= 4:
            raise ReconError(f"--sh-degree must be from 0 to 4, found {self.sh_degree}")
        scene_format = format_of(self.output)
        check_output(self.output)
        source = open_scene(self.scene)
        before = source.sh_degree
        if self.sh_degree is not None:
            source = source.cut_to(self.sh_degree)
        degree = min(source.sh_degree, scene_format.max_sh_degree)
        with progress_reporter(self.quiet or self.json) as progress:
            write_scene(self.output, replace(source, report=lambda d: progress("converting", d)))
        summary = {
            "output": str(self.output),
            "gaussians": source.count,
            "sh_degree": degree,
            "sh_degree_before": before,
            "megabytes": round(megabytes(self.output), 3),
            "seconds": round(time.perf_counter() - started, 2),
        }
        if self.json:
            say_json(summary)
        elif not self.quiet:
            lost = f" ({before} before)" if degree < before else ""
            say(
                f"wrote {self.output}: {source.count:,} Gaussians, SH degree {degree}{lost}, "
                f"{shown_size(self.output)}, {summary['seconds']:.1f} s"
            )
