"""`recon INPUT -o OUT`: photos to a scene file."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from recon.cli.options import ReconstructOptions
from recon.config import VIDEO_FRAMES, ReconstructConfig
from recon.errors import ReconError
from recon.reporting import megabytes, progress_reporter, say, say_json, shown_size

if TYPE_CHECKING:
    from recon.capture import Capture
    from recon.scene import Scene
    from viewer import LiveViewer


@dataclass(frozen=True)
class Reconstruct:
    """Turn photos into a scene of 3D Gaussians."""

    input: tyro.conf.Positional[Path]
    """Folder of photos, or a video. With a transforms.json, a COLMAP project or poses_bounds.npy in
    the folder its cameras are used, else they are solved."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Scene file to write; the extension chooses the format (.ply, .compressed.ply, .splat,
    .spz, .sog, .glb)."""
    options: Annotated[ReconstructOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=ReconstructOptions
    )
    frames: int = VIDEO_FRAMES
    """Photos to take from a video: sharp ones, evenly spread over its motion."""
    save_cameras: Path | None = None
    """Also write the cameras of the photos that were used, or of all that were solved, as
    transforms.json (file)."""
    save_colmap: Path | None = None
    """Also write the solved cameras and their photos as a COLMAP project that other tools can train
    from (a new folder)."""
    view: bool = False
    """Show the scene in the browser while it is made, and afterwards until Ctrl-C."""
    quiet: bool = False
    """Print nothing but errors."""
    json: bool = False
    """Print one JSON object instead of the closing line."""

    def run(self) -> None:
        """Check the outputs first, so that no work is lost to a typing error."""
        start = time.perf_counter()
        capture = self._checked()
        config = self.options.config()
        with self._live() as live:
            scene = self._make(capture, config, live)
            made = scene.provenance
            assert made is not None and made.poses is not None
            summary = {
                "output": str(self.output),
                "gaussians": len(scene.gaussians),
                "megabytes": round(megabytes(self.output), 3),
                "seconds": round(time.perf_counter() - start, 2),
                "model": made.config.model,
                "views_used": list(made.view_names),
                "views_found": len(capture.frames),
                "cameras": made.camera_source,
                "left_out": list(made.left_out),
                "depth_is_guessed": made.depth_is_guessed,
            }
            if self.json:
                say_json(summary)
            elif not self.quiet:
                say(_closing_line(summary, shown_size(self.output)))
            if live is not None:
                live.finish(scene.gaussians, made.poses.capture, megabytes(self.output))
                live.serve_forever()

    def _checked(self) -> "Capture":
        """The photos, once everything can be written."""
        from recon.capture import load_capture
        from recon.files import check_new_folder, check_output
        from recon.formats import format_of

        format_of(self.output)
        check_output(self.output)
        if self.save_cameras is not None:
            check_output(self.save_cameras)
        if self.save_colmap is not None:
            check_new_folder(self.save_colmap)
        capture = load_capture(self.input, self.frames)
        given = capture.has_cameras and self.options.cameras != "solve"
        if self.save_colmap is not None and given:
            raise ReconError(
                f"--save-colmap writes cameras that recon solves, and {self.input} comes with "
                "cameras; leave it out, or solve them anew (--cameras solve)"
            )
        if self.save_colmap is not None and len(capture.frames) == 1:
            raise ReconError(
                f"--save-colmap writes cameras that recon solves, and {self.input} is one photo: "
                "there is nothing to solve; leave it out or add photos"
            )
        return capture

    def _make(
        self, capture: "Capture", config: ReconstructConfig, live: "LiveViewer | None"
    ) -> "Scene":
        """Reconstruct, and write all files."""
        from recon.capture import write_transforms
        from recon.capture.sfm import export_colmap
        from recon.pipeline import reconstruct

        with progress_reporter(self.quiet or self.json) as progress:
            scene = reconstruct(capture, config, progress, live.update if live else None)
            progress("writing", 0.0)
            scene.save(self.output)
            made = scene.provenance
            assert made is not None and made.poses is not None
            if self.save_cameras is not None:
                write_transforms(self.save_cameras, made.frames_with_cameras)
            if self.save_colmap is not None:
                export_colmap(made.poses, self.save_colmap)
        return scene

    def _live(self) -> "AbstractContextManager[LiveViewer | None]":
        if not self.view:
            return nullcontext()
        from viewer import LiveViewer

        return LiveViewer(self.output.name)


def _closing_line(summary: dict, size: str) -> str:
    used, found = len(summary["views_used"]), summary["views_found"]
    photos = f"{used} photos" if used > 1 else "1 photo"
    if used < found:
        photos = f"{used} of {found} photos (see --max-views)"
    guess = "; one photo: its depth is a guess" if summary["depth_is_guessed"] else ""
    if summary["left_out"]:
        guess += f"; could not place {_listed(summary['left_out'])}"
    return (
        f"wrote {summary['output']}: {summary['gaussians']:,} Gaussians from {photos}, "
        f"{size}, {summary['seconds']:.1f} s{guess}"
    )


def _listed(names: list[str]) -> str:
    """All of a few names, the first ones of many."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
