"""`recon compress SCENE -o OUT`: a smaller scene that looks the same."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput
from recon.errors import ReconError
from recon.reporting import (
    check_json,
    megabytes,
    note,
    prints_json,
    progress_reporter,
    report,
    shown_size,
)

if TYPE_CHECKING:
    from recon.compress import Looks, Packed, Packer
    from recon.types import Progress
    from render import Gaussians

DEFAULT_LOSS_DB = 0.1
# Mean squared error against photos from which on they are another scene's (10 dB).
UNLIKE = 0.1


@dataclass(frozen=True)
class Compress:
    """Reduce the file size of a scene at a small loss of quality."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file (.ply, .compressed.ply, .splat, .spz, .sog, .glb)."""
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
    quiet: bool = False
    """Print errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a closing line, or write it to FILE."""

    def run(self) -> None:
        """Check, look, search, write."""
        from recon.compress import Packer
        from recon.files import check_output
        from recon.formats import format_of, load_gaussians

        started = time.perf_counter()
        self._check()
        suffix = format_of(self.output).extension
        check_output(self.output)
        check_json(self.json)
        if self.output.exists() and self.output.samefile(self.scene):
            raise ReconError(f"{self.output} is the scene itself: what goes could not come back")
        scene = load_gaussians(self.scene)
        if len(scene) == 0:
            raise ReconError(f"{self.scene} holds no Gaussians: nothing to compress")
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            progress("looking", 0.0)
            looks = self._looks(scene)
            with Packer(scene, looks, suffix) as packer:
                packed = self._search(packer, lambda done: progress("compressing", done))
                packer.save(packed, self.output)
        summary = {
            "output": str(self.output),
            "gaussians": packed.count,
            "gaussians_before": len(scene),
            "megabytes": round(megabytes(self.output), 3),
            "megabytes_before": round(megabytes(self.scene), 3),
            "loss_db": round(packed.loss_db, 4),
            "seconds": round(time.perf_counter() - started, 2),
        }
        if not self.quiet and megabytes(self.output) > megabytes(self.scene):
            note(f"{self.output} is larger than {self.scene}; .sog is the smallest format")
        where = "" if self.cameras else " from synthetic views"
        line = (
            f"wrote {self.output}: {summary['gaussians']:,} of {len(scene):,} Gaussians, "
            f"{shown_size(self.output)} ({shown_size(self.scene)} before), "
            f"loses {packed.loss_db:.2f} dB{where}, {summary['seconds']:.1f} s"
        )
        report(line, summary, self.json, self.quiet)

    def _check(self) -> None:
        from recon.config import ViewConfig

        wishes = {"--target-size": self.target_size, "--max-loss": self.max_loss}
        wishes["--keep"] = self.keep
        asked = [name for name, value in wishes.items() if value is not None]
        if len(asked) > 1:
            raise ReconError(f"{' and '.join(asked)} exclude each other; choose one")
        for name in asked:
            value = wishes[name] or 0.0
            if not 0 < value < float("inf") or (name == "--keep" and value > 1):
                expected = "above 0, at most 1" if name == "--keep" else "above 0"
                raise ReconError(f"{name} must be {expected}, found {value:g}")

        ViewConfig(self.max_views, self.resolution)

    def _looks(self, scene: "Gaussians") -> "Looks":
        from recon.capture import load_capture, load_views, select_spread
        from recon.compress import Looks, imagined_cameras

        if self.cameras is None:
            return Looks.of(scene, *imagined_cameras(scene))
        capture = load_capture(self.cameras)
        if not capture.has_cameras:
            raise ReconError(f"{self.cameras} has no cameras; leave --cameras out")
        frames = [capture.frames[i] for i in select_spread(capture, self.max_views)]
        views = load_views(frames, resolution=self.resolution)
        looks = Looks.of(scene, views.cameras, photos=views)
        if looks.error > UNLIKE:
            raise ReconError(
                f"{self.scene} looks nothing like the photos of {self.cameras}: PSNR "
                f"{-10 * math.log10(looks.error):.1f} dB; give its own, or leave --cameras out"
            )
        return looks

    def _search(self, packer: "Packer", progress: "Progress") -> "Packed":
        if self.keep is not None:
            return packer.keep(self.keep)
        if self.target_size is not None:
            return packer.within_size(self.target_size, progress)
        return packer.within_loss(self.max_loss or DEFAULT_LOSS_DB, progress)
