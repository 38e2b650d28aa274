"""`recon convert SCENE -o OUT`: convert a scene to another format, or to a point cloud."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput, UsageError
from recon.cli.outputs import (
    check_capture_stays,
    check_outputs,
    expected_bytes,
    expected_point_bytes,
)
from recon.cli.scene_capture import capture_of_scene
from recon.errors import warn
from recon.reporting import (
    megabytes,
    prints_json,
    progress_reporter,
    report,
    shown_size,
)
from recon.scene_extensions import POINT_CLOUD_EXTENSIONS_TEXT, is_point_cloud

if TYPE_CHECKING:
    from recon.formats import NamedCamera, SceneSource


@dataclass(frozen=True)
class Convert:
    """Convert a scene file to another format, or to a point cloud."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """File to write; the extension selects the format: one of a scene, or of a point cloud
    ({point_cloud_extensions})."""
    sh_degree: Annotated[int | None, Arg(metavar="DEGREE")] = None
    """Drop spherical harmonics above this degree (0 to 4) from a scene."""
    scale: float | None = None
    """Multiply positions, sizes and cameras by this factor."""
    scale_between: Annotated[tuple[str, ...], Arg(metavar="A B METRES")] = ()
    """Scale so that two points get this distance. A point is x,y,z in the scene, or a pixel of a
    photo of --cameras, PHOTO:x,y, from the left and the top."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE")] = None
    """Capture or transforms.json (the photos need not exist) whose cameras to write into a USD
    file, or whose photos --scale-between names."""
    min_opacity: Annotated[float | None, Arg(metavar="OPACITY")] = None
    """Leave Gaussians of a lower opacity out of a point cloud, 0 to 1 [default: 0.1]."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a summary line, or write it to FILE."""

    def run(self) -> None:
        """Convert in chunks, so that PLY and .splat files of any size need little memory."""
        from recon.formats import open_scene

        started = time.perf_counter()
        self._check()
        source = open_scene(self.scene)
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            source = replace(source, report=lambda done: progress("converting", done))
            convert = self._to_points if is_point_cloud(self.output.name) else self._to_scene
            text, facts = convert(source, self._factor(source))
        seconds = time.perf_counter() - started
        size = megabytes(self.output)
        summary = {"output": str(self.output), **facts}
        summary |= {"megabytes": round(size, 3), "seconds": round(seconds, 2)}
        line = f"wrote {self.output}: {text}, {shown_size(size)}, {seconds:.1f} s"
        report(line, summary, self.json, self.quiet)

    def _check(self) -> None:
        """Check the options and the output before the work."""
        from recon.formats import FORMATS, format_of

        if self.sh_degree is not None and not 0 <= self.sh_degree <= 4:
            raise UsageError(f"--sh-degree must be from 0 to 4, found {self.sh_degree}")
        if self.min_opacity is not None and not 0 <= self.min_opacity <= 1:
            raise UsageError(f"--min-opacity must be from 0 to 1, found {self.min_opacity:g}")
        points = is_point_cloud(self.output.name)
        if self.min_opacity is not None and not points:
            raise UsageError(
                f"--min-opacity is for point clouds ({POINT_CLOUD_EXTENSIONS_TEXT}), and "
                f"{self.output} is none"
            )
        if self.sh_degree is not None and points:
            raise UsageError(
                f"--sh-degree is for scenes, and {self.output} is a point cloud, which has no "
                "spherical harmonics; leave it out"
            )
        names_photos = self._check_scale()
        keeps_cameras = not points and format_of(self.output).keeps_cameras
        if self.cameras is not None and not keeps_cameras and not names_photos:
            known = ", ".join(e for e, record in FORMATS.items() if record.keeps_cameras)
            raise UsageError(
                f"--cameras needs a format that holds cameras ({known}), or a photo in "
                f"--scale-between, found {self.output}"
            )
        outputs = {"-o": self.output, "--json": self.json}
        check_outputs(outputs, inputs=[self.scene, self.cameras], force=self.force)

    def _check_scale(self) -> bool:
        """Check the options of the scale; return whether they name photos."""
        from recon.cli.scaling import PhotoPixel, check_factor, parse_distance

        if self.scale is not None:
            if self.scale_between:
                raise UsageError("--scale and --scale-between exclude each other; pass one of them")
            check_factor("--scale", self.scale)
        if not self.scale_between:
            return False
        return any(isinstance(part, PhotoPixel) for part in parse_distance(self.scale_between))

    def _factor(self, source: "SceneSource") -> float:
        """Return the factor to scale by."""
        from recon.cli.scaling import factor_for, parse_distance

        if not self.scale_between:
            return 1.0 if self.scale is None else self.scale
        first, second, distance = parse_distance(self.scale_between)
        return factor_for(source, (first, second), distance, self.cameras)

    def _to_scene(self, source: "SceneSource", factor: float) -> tuple[str, dict[str, Any]]:
        """Write a scene; return the words and the values of the summary."""
        from recon.files import check_space
        from recon.formats import format_of, write_scene

        before = source.sh_degree
        if self.sh_degree is not None:
            source = source.cut_to(self.sh_degree)
        if self.cameras is not None and format_of(self.output).keeps_cameras:
            source = replace(source, cameras=self._photo_cameras(self.cameras, source))
        source = source.scaled(factor)
        degree = min(source.sh_degree, format_of(self.output).max_sh_degree)
        check_space(self.output, expected_bytes(self.output, source.count, degree))
        write_scene(self.output, source)
        lost = f" ({before} before)" if degree < before else ""
        text = f"{source.count:,} Gaussians, SH degree {degree}{lost}"
        facts: dict[str, Any] = {
            "gaussians": source.count,
            "sh_degree": degree,
            "sh_degree_before": before,
        }
        if format_of(self.output).keeps_cameras and source.cameras:
            text += f", {len(source.cameras):,} cameras"
            facts["cameras"] = len(source.cameras)
        if factor != 1:
            text += f", scaled by {factor:.6g}"
            facts["scale"] = factor
        return text, facts

    def _photo_cameras(self, path: Path, source: "SceneSource") -> "tuple[NamedCamera, ...]":
        """Return the cameras of the photos of a capture, without their distortion."""
        from recon.formats import NamedCamera
        from render import Cameras

        capture = capture_of_scene(path, source.start, photos=False)
        check_capture_stays({"-o": self.output}, capture, self.force)
        known = [(f.name, f.camera) for f in capture.frames if f.camera is not None]
        distorted = sum(camera.distortion != "none" for _, camera in known)
        if distorted:
            warn(
                f"{self.output}: {distorted} of {len(known)} cameras are written without their "
                "distortion, which USD cannot hold"
            )
        return tuple(
            NamedCamera(name, Cameras(c.viewmat[None], c.K[None], c.width, c.height))
            for name, c in known
        )

    def _to_points(self, source: "SceneSource", factor: float) -> tuple[str, dict[str, Any]]:
        """Write a point cloud; return the words and the values of the summary."""
        from recon.export.point_cloud import MIN_OPACITY, PointCloud, write_point_cloud
        from recon.files import check_space
        from recon.precision import WORLD

        least = MIN_OPACITY if self.min_opacity is None else self.min_opacity
        far = source.origin != WORLD
        check_space(self.output, expected_point_bytes(self.output, source.count, far))
        cloud = PointCloud.of(self.output, source.cut_to(0).scaled(factor), least)
        write_point_cloud(self.output, cloud)
        left_out = source.count - cloud.count
        text = f"{cloud.count:,} points"
        if left_out:
            text += f", {left_out:,} Gaussians of opacity below {least:g} left out"
        text += ", without sizes, rotations, opacities"
        if source.sh_degree > 0:
            text += f" and SH of degrees 1 to {source.sh_degree}"
        if factor != 1:
            text += f", scaled by {factor:.6g}"
        facts = {
            "points": cloud.count,
            "gaussians": source.count,
            "left_out_gaussians": left_out,
            "min_opacity": least,
            "sh_degree_before": source.sh_degree,
        } | ({"scale": factor} if factor != 1 else {})
        return text, facts
