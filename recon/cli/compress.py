"""`recon compress SCENE -o OUT`: a smaller scene that looks the same."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from recon.errors import ReconError
from recon.reporting import megabytes, note, progress_reporter, say, say_json, shown_size

if TYPE_CHECKING:
    from recon.compress import Looks, Packed, Packer
    from render import Gaussians

DEFAULT_LOSS_DB = 0.1
# Mean squared error against photos from which on they are another scene's (10 dB).
UNLIKE = 0.1


@dataclass(frozen=True)
class Compress:
    """Make a scene smaller: fewer Gaussians, in any format."""

    scene: tyro.conf.Positional[Path]
    """Scene file (.ply, .compressed.ply, .splat, .spz, .sog, .glb)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Scene file to write; the extension chooses the format (.sog is the smallest)."""
    target_size: float | None = None
    """Size of the file to stay within (MB). The search takes minutes."""
    max_loss: float | None = None
    """Loss of PSNR to stay within (dB); without any wish, 0.1. The search takes minutes."""
    keep: float | None = None
    """Part of the Gaussians to keep, the most important ones, as they are (0 to 1): quick, but the
    others leave holes, where the searches teach the rest to fill them."""
    cameras: Path | None = None
    """Capture of the scene: quality is measured against its photos and between its cameras.
    Without, from all around, from one guessed place, and from nearer: photos taken elsewhere,
    further inside the scene, may lose more than is said."""
    max_views: int = 8
    """Most photos of it to use (photos)."""
    resolution: int = 512
    """Long side at which they are used (px)."""
    quiet: bool = False
    """Print nothing but errors."""
    json: bool = False
    """Print one JSON object instead of the closing line."""

    def run(self) -> None:
        """Check, look, search, write."""
        from recon.compress import Packer
        from recon.files import check_output
        from recon.formats import format_of, load_gaussians

        started = time.perf_counter()
        self._check()
        suffix = format_of(self.output).extension
        check_output(self.output)
        if self.output.exists() and self.output.samefile(self.scene):
            raise ReconError(f"{self.output} is the scene itself: what goes could not come back")
        scene = load_gaussians(self.scene)
        if len(scene) == 0:
            raise ReconError(f"{self.scene} holds no Gaussians: nothing to compress")
        with progress_reporter(self.quiet or self.json) as progress:
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
        if self.json:
            say_json(summary)
        elif not self.quiet:
            where = "" if self.cameras else " seen from imagined cameras"
            say(
                f"wrote {self.output}: {summary['gaussians']:,} of {len(scene):,} Gaussians, "
                f"{shown_size(self.output)} ({shown_size(self.scene)} before), "
                f"loses {packed.loss_db:.2f} dB{where}, {summary['seconds']:.1f} s"
            )

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

    def _search(self, packer: "Packer", progress) -> "Packed":
        if self.keep is not None:
            return packer.keep(self.keep)
        if self.target_size is not None:
            return packer.within_size(self.target_size, progress)
        return packer.within_loss(self.max_loss or DEFAULT_LOSS_DB, progress)
