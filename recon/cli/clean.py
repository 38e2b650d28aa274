"""`recon clean SCENE -o OUT`: remove floaters from a scene."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput
from recon.cli.outputs import check_outputs
from recon.cli.scene_cameras import scene_cameras
from recon.reporting import megabytes, prints_json, progress_reporter, report, shown_size


@dataclass(frozen=True)
class Clean:
    """Remove floaters from a scene: Gaussians in front of the surfaces that cameras see."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """Scene file to write; the extension selects the format ({scene_extensions})."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE")] = None
    """Capture of the scene, or transforms.json (the photos need not exist): what is in front of the
    surfaces that its cameras see is removed. If omitted, the cameras that the file keeps, or
    guessed ones."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a summary line, or write it to FILE."""

    def run(self) -> None:
        """Check the options, find the floaters, and write the other Gaussians."""
        from recon.cleaning.floaters import CleanConfig, find_floaters
        from recon.formats import SceneSource, format_of, open_scene, write_scene

        started = time.perf_counter()
        format_of(self.output)
        outputs = {"-o": self.output, "--json": self.json}
        check_outputs(outputs, inputs=[self.scene, self.cameras], force=self.force)
        source = open_scene(self.scene)
        gaussians = source.load()
        config = CleanConfig()
        cameras = scene_cameras(
            source, gaussians, self.cameras, config.resolution, outputs, self.force
        )
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            floaters = find_floaters(gaussians, cameras, config, source.antialiased, progress)
            kept = gaussians[~floaters]
            cleaned = SceneSource.of(kept, source.origin, source.antialiased, source.start)
            write_scene(self.output, replace(cleaned, cameras=source.cameras))
        removed = int(floaters.sum())
        summary = {
            "output": str(self.output),
            "gaussians": len(kept),
            "removed": removed,
            "cameras": len(cameras),
            "megabytes": round(megabytes(self.output), 3),
            "seconds": round(time.perf_counter() - started, 2),
        }
        line = (
            f"wrote {self.output}: {len(kept):,} Gaussians, {removed:,} floaters removed by "
            f"{len(cameras)} cameras, {shown_size(megabytes(self.output))}, "
            f"{summary['seconds']:.1f} s"
        )
        report(line, summary, self.json, self.quiet)
