"""`recon INPUT -o OUT`: turn photos into a scene."""

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from recon.cli.arguments import OUTPUT, Arg, JsonOutput, UsageError, refuse_idle
from recon.cli.options import WITHOUT_STEPS, ReconstructOptions
from recon.cli.outputs import check_capture_stays, check_outputs, expected_bytes
from recon.config import ReconstructConfig
from recon.errors import counted, listed, strictly, warn
from recon.interrupts import hold_signal
from recon.reporting import (
    megabytes,
    prints_json,
    progress_reporter,
    report,
    shown_size,
)
from recon.time_limit import TimeLimit

if TYPE_CHECKING:
    from recon.capture import Capture
    from recon.scene import Scene
    from recon.types import StageProgress
    from viewer import LiveViewer

# Time before a command runs, which counts towards its time limit (s).
START_S = 0.3


@dataclass(frozen=True)
class Reconstruct:
    """Turn photos into a scene of 3D Gaussians."""

    input: Annotated[tuple[Path, ...], Arg(positional=True, metavar="INPUT")]
    """Folder or .zip of photos, a video, or several photos, folders and patterns (photos/*.jpg). If
    there is one folder and it has a transforms.json, a COLMAP project or a poses_bounds.npy, its
    cameras are used; otherwise they are estimated from the photos."""
    output: Annotated[Path, OUTPUT]
    """Scene file to write; the extension selects the format ({scene_extensions})."""
    options: ReconstructOptions = field(default_factory=ReconstructOptions)
    memory: Annotated[float | None, Arg(metavar="GB")] = ReconstructConfig.memory_gb
    """Limit of memory (GB), apart from estimating cameras: resolutions and the numbers of Gaussians
    and photos are reduced until it is kept [default: none]."""
    video_frames: Annotated[int | None, Arg(title="Input and output", replaces=("--frames",))] = (
        None
    )
    """Number of frames to extract from a video: sharp ones, evenly spread over the camera
    motion (default: 40 to 240, the more the camera moves)."""
    invert_masks: bool = False
    """Masks keep what is black, and not what is white."""
    save_cameras: Path | None = None
    """Also write the cameras of the scene to this transforms.json: those of the photos used, or of
    all photos if they were estimated."""
    save_colmap: Annotated[Path | None, Arg(metavar="FOLDER")] = None
    """Also write the estimated cameras and their photos to this new folder as a COLMAP project that
    other tools can train on."""
    viewer: Annotated[bool, Arg(replaces=("--view",))] = False
    """Open a viewer in the browser that shows the scene while it is computed, and until Ctrl-C
    afterwards."""
    keep_on_interrupt: bool = False
    """Write the best scene so far if Ctrl-C comes during the optimisation; a second one stops."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a summary line, or write it to FILE."""

    def run(self) -> None:
        """Reconstruct; outputs are checked first, so that a typo wastes no time."""
        with strictly(self.options.strict):
            self._reconstruct()

    def _reconstruct(self) -> None:
        from recon.files import check_space

        start = time.perf_counter()
        config = self.options.config()
        if config.optimise.steps == 0:
            refuse_idle(self, ("keep_on_interrupt",), WITHOUT_STEPS)
        limit = TimeLimit(config.seconds, time.monotonic() - START_S)
        capture = self._checked()
        config = replace(config, memory_gb=self.memory)
        degree = config.optimise.for_num_views(len(capture.frames)).sh_degree or 0
        count = expected_count(config, capture)
        check_space(self.output, expected_bytes(self.output, count, degree))
        with self._live() as live:
            scene, interrupted = self._make(capture, config, limit, live)
            made = scene.provenance
            assert made is not None and made.poses is not None
            summary = {
                "output": str(self.output),
                "gaussians": len(scene.gaussians),
                "megabytes": round(megabytes(self.output), 3),
                "seconds": round(time.perf_counter() - start, 2),
                "model": made.config.model,
                "views_used": list(made.view_names),
                "views_found": len(capture.frames) + len(capture.left_out),
                "cameras": made.camera_source,
                "left_out": list(made.left_out),
                "depth_is_guessed": made.depth_is_guessed,
            }
            if made.poses.gps_origin is not None:
                summary["gps_origin"] = list(made.poses.gps_origin)
            if self.keep_on_interrupt:
                summary |= {"interrupted": interrupted, "steps": made.num_steps}
            line = _closing_line(summary, shown_size(megabytes(self.output)))
            report(line, summary, self.json, self.quiet)
            if interrupted:
                raise SystemExit(128 + signal.SIGINT)
            if live is not None:
                live.finish(scene, made.poses.capture, megabytes(self.output))
                live.serve_forever()

    def _checked(self) -> "Capture":
        """Return the capture, after a check that all outputs can be written."""
        from recon.capture import load_capture
        from recon.formats import format_of
        from recon.local_frame import camera_origin

        format_of(self.output)
        files = {"-o": self.output, "--save-cameras": self.save_cameras, "--json": self.json}
        folders = {"--save-colmap": self.save_colmap}
        source = self.input[0] if len(self.input) == 1 else self.input
        check_outputs(files, folders, inputs=self.input, force=self.force)
        capture = load_capture(source, self.video_frames, invert_masks=self.invert_masks)
        check_capture_stays(files, capture, self.force)
        if capture.kind != "video" and self.video_frames is not None:
            # No error: a list of captures has its options in common.
            warn(f"--video-frames has no effect on {capture.title}, which is no video")
        given = capture.has_cameras and self.options.cameras != "solve"
        if given and not self.options.center:
            farthest = self.options.metric_scale * max(map(abs, camera_origin(capture.frames)))
            if farthest > format_of(self.output).max_position:
                raise UsageError(
                    f"cannot write {self.output}: the cameras are at coordinates up to "
                    f"{farthest:,.0f}, beyond the range of the format; write .ply, .glb or .sog, "
                    "or move the scene to the origin (--center)"
                )
        if self.save_colmap is not None and given:
            raise UsageError(
                f"--save-colmap writes estimated cameras, and {capture.title} comes with "
                "cameras; omit it, or estimate them anew (--camera-source solve)"
            )
        if self.save_colmap is not None and len(capture.frames) == 1:
            raise UsageError(
                f"--save-colmap writes estimated cameras, and {capture.title} is one photo: there "
                "is nothing to estimate; omit it or add photos"
            )
        return capture

    def _make(
        self,
        capture: "Capture",
        config: ReconstructConfig,
        limit: TimeLimit,
        live: "LiveViewer | None",
    ) -> tuple["Scene", bool]:
        """Write all outputs; return the scene, and whether Ctrl-C ended its optimisation."""
        from recon.capture import write_transforms
        from recon.capture.sfm import export_colmap
        from recon.pipeline import reconstruct

        quiet = self.quiet or prints_json(self.json)
        with progress_reporter(quiet) as report_stage, ExitStack() as held:
            progress, was_interrupted = report_stage, _never
            if self.keep_on_interrupt:
                progress, was_interrupted = _interruptible(report_stage, held)
            scene = reconstruct(capture, config, progress, live.update if live else None, limit)
            was_kept, before = not limit.is_exceeded, limit.spent
            progress("writing", 0.0)
            scene.save(self.output)
            if was_kept and limit.is_exceeded:
                limit.warn(f"writing {self.output} took {limit.spent - before:.0f} s")
            made = scene.provenance
            assert made is not None and made.poses is not None
            if self.save_cameras is not None:
                write_transforms(self.save_cameras, made.frames_with_cameras)
            if self.save_colmap is not None:
                export_colmap(made.poses, self.save_colmap)
            return scene, was_interrupted()

    def _live(self) -> "AbstractContextManager[LiveViewer | None]":
        if not self.viewer:
            return nullcontext()
        from viewer import LiveViewer

        return LiveViewer(self.output.name)


def _never() -> bool:
    """Return that Ctrl-C was not pressed; otherwise the command would have ended."""
    return False


def _interruptible(
    progress: "StageProgress", held: ExitStack
) -> tuple["StageProgress", Callable[[], bool]]:
    """Let a first Ctrl-C end the optimisation only, from its first step until `held` is closed.

    Returns:
        The progress function to use, and one that tells whether there was a Ctrl-C.
    """
    from recon.types import StopEarly

    asked: list[Callable[[], int | None]] = []

    def was_interrupted() -> bool:
        return any(was_asked() for was_asked in asked)

    def report(stage: str, fraction: float) -> None:
        if stage == "optimising":
            if not asked:
                asked.append(held.enter_context(hold_signal(signal.SIGINT)))
            if was_interrupted() and fraction < 1:
                raise StopEarly
        progress(stage, fraction)

    return report, was_interrupted


def expected_count(config: ReconstructConfig, capture: "Capture") -> int:
    """Estimate the number of Gaussians, if photos are as large as the resolution permits."""
    from recon.memory_limit import MemoryEstimate

    photos = min(len(capture.frames), config.views.max_views)
    size = config.views.resolution, 3 * config.views.resolution // 4
    count = MemoryEstimate.of(config, size, photos).gaussians
    most = config.simplify.max_gaussians
    return count if most is None else min(count, most)


def _closing_line(summary: dict[str, Any], size: str) -> str:
    used, found = len(summary["views_used"]), summary["views_found"]
    photos = counted(used, "photo")
    if used + len(summary["left_out"]) < found:
        photos = f"{used} of {found} photos (see --max-views)"
    note = "; one photo: its depth is a guess" if summary["depth_is_guessed"] else ""
    if summary["left_out"]:
        note += f"; left out: {listed(summary['left_out'])}"
    if "gps_origin" in summary:
        latitude, longitude, altitude = summary["gps_origin"]
        note += f"; east, north and up of {latitude:.6f}, {longitude:.6f}, {altitude:.1f} m"
    if summary.get("interrupted"):
        note += f"; interrupted after {summary['steps']} steps"
    return (
        f"wrote {summary['output']}: {summary['gaussians']:,} Gaussians from {photos}, "
        f"{size}, {summary['seconds']:.1f} s{note}"
    )
