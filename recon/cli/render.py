"""`recon render SCENE -o OUT`: render images or a video of a scene."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg
from recon.cli.outputs import check_capture_stays, check_outputs
from recon.errors import MissingDependency, ReconError
from recon.reporting import parse_size, progress_reporter, say

if TYPE_CHECKING:
    from torch import Tensor

    from recon.capture import Capture
    from recon.formats import SceneSource
    from recon.precision import Origin
    from recon.types import StageProgress
    from render import Cameras, Gaussians

IMAGE_FORMATS = (".png", ".jpg", ".jpeg")
DEFAULT_SIZE_PX = (768, 512)
BACKGROUNDS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5)}


@dataclass(frozen=True)
class Render:
    """Render images or a video of a scene."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """Image (.png, .jpg), video (.mp4), or a folder for one image per camera."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE")] = None
    """Capture or transforms.json (the photos need not exist) whose cameras to use; if omitted, the
    one that the scene file tells (.splat and .spz cannot), or else a guess."""
    camera_index: Annotated[str | None, Arg(metavar="N|PHOTO", replaces=("--view",))] = None
    """Camera to use, by its index from 0 or the name of its photo; if omitted, the first."""
    path: Literal["orbit", "wave", "interpolate"] | None = None
    """Move the camera along a path; orbit if omitted for a video."""
    size: Annotated[str | None, Arg(metavar="WxH")] = None
    """Image size in pixels, such as 640x480; if omitted, that of the camera, with a longer side of
    at most 768."""
    num_frames: Annotated[int, Arg(replaces=("--frames",))] = 60
    """Number of images along a path."""
    fps: float = 30.0
    """Frames per second of a video."""
    depth: bool = False
    """Render depth as colours (red is near) instead of the image."""
    background: Literal["black", "white", "grey"] = "black"
    """Background colour."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to render on."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""

    def run(self) -> None:
        """Find the cameras, render one view at a time, and write complete outputs only."""
        from recon.devices import choose_render_device
        from recon.files import check_output_folder
        from recon.formats import open_scene

        suffix = self.output.suffix.lower()
        if suffix not in (*IMAGE_FORMATS, ".mp4", ""):
            raise ReconError(
                f"cannot write {self.output}: unknown image format {suffix}; "
                f"expected {', '.join(IMAGE_FORMATS)}, .mp4 or a folder"
            )
        if self.num_frames < 1 or not 0 < self.fps <= 240:
            raise ReconError("--num-frames must be at least 1 and --fps between 0 and 240")
        check_outputs(
            {"-o": self.output} if suffix else {},
            inputs=[self.scene, self.cameras],
            force=self.force,
        )
        if suffix == ".mp4":
            _check_video_support()
        source = open_scene(self.scene)
        gaussians = source.load().to(choose_render_device(self.device))
        cameras, names = self._cameras(gaussians, suffix, source)
        if not suffix:
            check_output_folder(self.output, [f"{name}.png" for name in names])
        with progress_reporter(self.quiet) as progress:
            images = self._images(gaussians, cameras, source.antialiased, progress)
            self._write(suffix, images, names)
        if not self.quiet:
            size = f"{cameras.width}x{cameras.height}"
            count = f"{len(cameras)} images" if len(cameras) > 1 else "1 image"
            known = self.cameras is not None or source.start is not None
            hint = "" if known else "; camera guessed, see --cameras"
            say(f"wrote {self.output}: {count} of {size} px, {len(gaussians):,} Gaussians{hint}")

    def _cameras(
        self, gaussians: "Gaussians", suffix: str, source: "SceneSource"
    ) -> tuple["Cameras", list[str]]:
        """Return the cameras to render, relative to the origin, and the names of their images."""
        from render.paths import PATHS

        if self.cameras is None:
            if self.camera_index is not None:
                raise ReconError("--camera-index selects one of --cameras; pass both")
            given, names = self._first_camera(gaussians, source), ["view"]
        else:
            given, names = self._given_cameras(self.cameras, source.origin)
            given = given.to(gaussians.device)
        if self.camera_index is not None:
            index = _camera_index(self.camera_index, names)
            given, names = given[[index]], [names[index]]
        path = self.path or ("orbit" if suffix == ".mp4" else None)
        if path is not None:
            moved = PATHS[path](
                gaussians, given, self.num_frames if suffix not in IMAGE_FORMATS else 1
            )
            return moved, [f"{i:04d}" for i in range(len(moved))]
        if suffix in IMAGE_FORMATS:
            return given[[0]], names[:1]
        return given, names

    def _first_camera(self, gaussians: "Gaussians", source: "SceneSource") -> "Cameras":
        """Return the camera that the file tells to start from, or else a guess."""
        from recon.start_camera import fitted, local_start
        from render.guess import default_camera

        size = parse_size(self.size) if self.size else None
        if source.start is None:
            return default_camera(gaussians, *(size or DEFAULT_SIZE_PX))
        start = local_start(source.start, source.origin).to(gaussians.device)
        if size is None:
            scale = max(DEFAULT_SIZE_PX) / max(start.width, start.height)
            size = max(1, round(scale * start.width)), max(1, round(scale * start.height))
        return fitted(start, *size)

    def _given_cameras(self, path: Path, origin: "Origin") -> tuple["Cameras", list[str]]:
        """Return the pinhole cameras of a capture, without distortion, at one size."""
        from recon.capture import load_capture, pinhole_cameras
        from recon.capture.cameras import relative_to

        capture = load_capture(path, photos=False)
        if not capture.has_cameras:
            raise ReconError(f"{path} has no cameras; expected a capture with known cameras")
        check_capture_stays({"-o": self.output}, capture, self.force)
        size = parse_size(self.size) if self.size else None
        return pinhole_cameras(relative_to(capture, origin), size), _file_names(capture)

    def _images(
        self,
        gaussians: "Gaussians",
        cameras: "Cameras",
        antialiased: bool,
        progress: "StageProgress",
    ) -> "Iterator[Tensor]":
        import torch

        from render import RasterizeSettings, rasterize
        from render.video import depth_to_color

        settings = RasterizeSettings(antialiased=antialiased)
        color = torch.tensor([BACKGROUNDS[self.background]]).to(gaussians.means)
        for i in range(len(cameras)):
            progress("rendering", i / len(cameras))
            with torch.no_grad():
                shown = rasterize(gaussians, cameras[[i]], backgrounds=color, settings=settings)
            if self.depth:
                yield depth_to_color(shown.expected_depth[0], shown.alpha[0])
            else:
                yield shown.rgb[0]

    def _write(self, suffix: str, images: "Iterator[Tensor]", names: list[str]) -> None:
        from recon.files import atomic_output
        from render.video import write_image, write_video

        with atomic_output(self.output) as temporary:
            if suffix == ".mp4":
                write_video(temporary, images, self.fps)
            elif suffix in IMAGE_FORMATS:
                write_image(temporary, next(images))
            else:
                temporary.mkdir()
                for name, image in zip(names, images, strict=True):
                    write_image(temporary / f"{name}.png", image)


def _check_video_support() -> None:
    """Raise MissingDependency, before anything is rendered, if a video could not be written."""
    from render.video import check_video_support

    try:
        check_video_support()
    except OSError:
        raise MissingDependency(
            "writing .mp4 needs PyAV, which is not installed; pip install 'reconsplat[video]', or "
            "write a folder of images"
        ) from None


def _file_names(capture: "Capture") -> list[str]:
    """Return the photos' names without folder and extension; numbered if they clash."""
    names = [Path(frame.name).stem for frame in capture.frames]
    if len(set(names)) == len(names):
        return names
    return [f"{i:04d}_{name}" for i, name in enumerate(names)]


def _camera_index(name: str, names: list[str]) -> int:
    """Return the index of a camera given by the name of its photo or by its index."""
    # Photos may be called by numbers, too: "0012" is a name, "12" an index.
    if name.isdecimal() and str(int(name)) == name and int(name) < len(names):
        return int(name)
    if Path(name).stem in names:
        return names.index(Path(name).stem)
    raise ReconError(
        f"--camera-index {name}: expected an index from 0 to {len(names) - 1} or the name of a "
        f"photo such as {names[0]}"
    )
