"""`recon INPUT -o OUT`: photos to a scene file."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from recon.commands.output import megabytes, progress_reporter, say, say_json
from recon.settings import ReconstructSettings


@dataclass(frozen=True)
class Reconstruct:
    """Turn photos into a scene of 3D Gaussians."""

    input: tyro.conf.Positional[Path]
    """Folder of photos with cameras: transforms.json, a COLMAP project or poses_bounds.npy."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Scene file to write; the extension chooses the format (.ply)."""
    settings: Annotated[ReconstructSettings, tyro.conf.OmitArgPrefixes] = field(
        default_factory=ReconstructSettings
    )
    save_cameras: Path | None = None
    """Also write the cameras of the photos that were used, as transforms.json (file)."""
    quiet: bool = False
    """Print nothing but errors."""
    json: bool = False
    """Print one JSON object instead of the closing line."""

    def run(self) -> None:
        """Check the outputs first, so that no work is lost to a typing error."""
        from recon.capture import open_capture, write_transforms
        from recon.files import check_output
        from recon.formats import check_format, save_gaussians
        from recon.pipeline import reconstruct

        start = time.perf_counter()
        check_format(self.output)
        check_output(self.output)
        if self.save_cameras is not None:
            check_output(self.save_cameras)
        capture = open_capture(self.input)
        with progress_reporter(self.quiet or self.json) as progress:
            scene = reconstruct(capture, self.settings, progress)
            progress("writing", 0.0)
            save_gaussians(self.output, scene.gaussians)
            if self.save_cameras is not None:
                write_transforms(self.save_cameras, scene.frames)
        seconds = time.perf_counter() - start
        summary = {
            "output": str(self.output),
            "gaussians": len(scene.gaussians),
            "megabytes": round(megabytes(self.output), 3),
            "seconds": round(seconds, 2),
            "model": scene.model,
            "views_used": [frame.name for frame in scene.frames],
            "views_found": len(capture.frames),
            "depth_is_guessed": scene.depth_is_guessed,
        }
        if self.json:
            say_json(summary)
        elif not self.quiet:
            say(_closing_line(summary))


def _closing_line(summary: dict) -> str:
    used, found = len(summary["views_used"]), summary["views_found"]
    photos = f"{used} photos" if used > 1 else "1 photo"
    if used < found:
        photos = f"{used} of {found} photos (see --max-views)"
    guess = "; one photo: its depth is a guess" if summary["depth_is_guessed"] else ""
    return (
        f"wrote {summary['output']}: {summary['gaussians']:,} Gaussians from {photos}, "
        f"{summary['megabytes']:.1f} MB, {summary['seconds']:.1f} s{guess}"
    )
