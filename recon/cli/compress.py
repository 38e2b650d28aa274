"""`recon compress SCENE -o OUT`: a smaller scene that looks the same."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput, refuse_idle
from recon.cli.outputs import check_capture_stays, check_outputs
from recon.cli.scene_capture import capture_of_scene
from recon.errors import warn
from recon.reporting import (
    megabytes,
    prints_json,
    progress_reporter,
    report,
    shown_size,
)

if TYPE_CHECKING:
    from recon.formats import SceneSource
    from recon.types import Views


@dataclass(frozen=True)
class Compress:
    """Reduce the file size of a scene at a small loss of quality."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """Scene file to write; the extension selects the format (.sog is the smallest)."""
    target_size: Annotated[float | None, Arg(metavar="MB")] = None
    """Maximum size of the file in MB. The search takes minutes."""
    max_loss: Annotated[float | None, Arg(metavar="DB")] = None
    """Maximum loss of PSNR in dB; 0.1 if no target is given. The search takes minutes."""
    keep: Annotated[float | None, Arg(metavar="FRACTION")] = None
    """Fraction of the Gaussians to keep, the most important ones, unchanged (above 0, at most 1).
    Quick, but leaves holes, which the two searches fill by optimising the rest."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE", title="Quality")] = None
    """Capture of the scene: quality is measured on its photos and halfway between its cameras.
    If omitted, quality is measured from synthetic views only; the loss at the original camera
    poses may be higher than reported."""
    max_views: int = 8
    """Maximum number of photos to use."""
    resolution: Annotated[int, Arg(metavar="PX")] = 512
    """Length of the longer image side in pixels."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a summary line, or write it to FILE."""

    def run(self) -> None:
        """Check the options, search, and write the file."""
        from recon.compression import compress
        from recon.config import ViewConfig
        from recon.files import check_space
        from recon.formats import format_of, open_scene, scene_bytes

        started = time.perf_counter()
        ViewConfig(self.max_views, self.resolution)
        if self.cameras is None:
            refuse_idle(self, ("max_views", "resolution"), "without photos (--cameras)")
        format_of(self.output)
        check_outputs(
            {"-o": self.output, "--json": self.json},
            inputs=[self.scene, self.cameras],
            force=self.force,
        )
        source = open_scene(self.scene)
        before = scene_bytes(self.scene) / 1e6
        if self.target_size is not None:
            check_space(self.output, 1e6 * self.target_size)
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            found = compress(
                source,
                self.output,
                max_loss_db=self.max_loss,
                target_mb=self.target_size,
                keep_fraction=self.keep,
                views=self._views(source),
                progress=progress,
            )
        summary = {
            "output": str(self.output),
            "gaussians": found.num_gaussians,
            "gaussians_before": source.count,
            "megabytes": round(megabytes(self.output), 3),
            "megabytes_before": round(before, 3),
            "loss_db": round(found.loss_db, 4),
            "seconds": round(time.perf_counter() - started, 2),
        }
        if megabytes(self.output) > before:
            warn(f"{self.output} is larger than {self.scene}; .sog is the smallest format")
        where = "" if self.cameras else " from synthetic views"
        line = (
            f"wrote {self.output}: {summary['gaussians']:,} of {source.count:,} Gaussians, "
            f"{shown_size(megabytes(self.output))} ({shown_size(before)} before), "
            f"loses {found.loss_db:.2f} dB{where}, {summary['seconds']:.1f} s"
        )
        report(line, summary, self.json, self.quiet)

    def _views(self, source: "SceneSource") -> "Views | None":
        """Load the photos of --cameras, if it is given; its cameras relative to an origin."""
        from recon.capture import load_views, select_spread
        from recon.capture.cameras import relative_to

        if self.cameras is None:
            return None
        capture = capture_of_scene(self.cameras, source.start)
        check_capture_stays({"-o": self.output, "--json": self.json}, capture, self.force)
        capture = relative_to(capture, source.origin)
        frames = [capture.frames[i] for i in select_spread(capture, self.max_views)]
        return load_views(frames, resolution=self.resolution)
