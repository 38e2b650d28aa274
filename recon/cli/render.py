"""`recon render SCENE -o OUT`: render images or a video of a scene."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, UsageError, refuse_idle
from recon.cli.outputs import check_capture_stays, check_outputs
from recon.cli.scene_capture import capture_of_scene
from recon.reporting import parse_size, progress_reporter, say

if TYPE_CHECKING:
    from torch import Tensor

    from recon.capture import Capture
    from recon.export.images import ImageConfig
    from recon.formats import SceneSource
    from recon.types import StageProgress
    from render import Cameras, Gaussians

IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".exr")
GLTF_EXTENSIONS = (".glb", ".gltf")
DEFAULT_SIZE_PX, PANORAMA_SIZE_PX = (768, 512), (2048, 1024)


@dataclass(frozen=True)
class Render:
    """Render images or a video of a scene."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """Image (.png, .jpg, .exr), video (.mp4), or a folder for one image per camera. An .exr has
    linear colour, alpha and depth (channels R G B A Z)."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE")] = None
    """Capture, transforms.json or camera file of another program (the photos need not exist), or
    .glb that Blender exported, whose cameras to use; if omitted, the one that the scene file tells
    (.splat and .spz cannot), or else a guess."""
    camera_index: Annotated[str | None, Arg(metavar="N|PHOTO", replaces=("--view",))] = None
    """Camera to use, by its index from 0 or the name of its photo; if omitted, the first."""
    path: Literal["orbit", "wave", "interpolate", "cameras"] | None = None
    """Move the camera along a path; cameras takes the given ones as they are. If omitted for a
    video, orbit, or the cameras of a .glb."""
    size: Annotated[str | None, Arg(metavar="WxH")] = None
    """Image size in pixels, such as 640x480; if omitted, that of the camera, with a longer side of
    at most 768, and 2048x1024 for a panorama."""
    scale: Annotated[int, Arg(metavar="N")] = 1
    """Render N times as many pixels each way and average them (supersampling)."""
    panorama: bool = False
    """Render all directions around the camera, as an equirectangular (360-degree) image."""
    num_frames: Annotated[int, Arg(replaces=("--frames",))] = 60
    """Number of images along a path, for a video or a folder."""
    fps: float = 30.0
    """Frames per second of a video."""
    depth: bool = False
    """Render depth as colours (red is near) instead of the image; in an .exr, depth itself. Of a
    panorama, the distance along the ray."""
    depth_unit: Annotated[float | None, Arg(metavar="X")] = None
    """With --depth, write 16-bit grey PNG with the depth in steps of X units of the scene, such as
    0.001 for millimetres in a scene in metres; 0 where there is nothing."""
    background: Literal["black", "white", "grey", "transparent"] = "black"
    """Background colour; transparent writes PNG with alpha."""
    image_format: Literal["png", "jpg", "exr"] = "png"
    """Format of the images in a folder."""
    resume: bool = False
    """Keep finished images in OUT.unfinished if interrupted, and go on with them when the same
    command runs again."""
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
            raise UsageError(
                f"cannot write {self.output}: unknown image format {suffix}; "
                f"expected {', '.join(IMAGE_FORMATS)}, .mp4 or a folder"
            )
        if self.num_frames < 1 or not 0 < self.fps <= 240:
            raise UsageError("--num-frames must be at least 1 and --fps between 0 and 240")
        self._check_panorama()
        self._check_idle(suffix)
        check_outputs(
            {"-o": self.output} if suffix else {},
            inputs=[self.scene, self.cameras],
            force=self.force,
        )
        self._config(False).check(suffix or f".{self.image_format}")
        source = open_scene(self.scene)
        gaussians = source.load().to(choose_render_device(self.device))
        cameras, names = self._cameras(gaussians, suffix, source)
        extension = suffix or f".{self.image_format}"
        files = [f"{name}{'.png' if suffix == '.mp4' else extension}" for name in names]
        if not suffix:
            check_output_folder(self.output, files)
        config = self._config(source.antialiased)
        with progress_reporter(self.quiet) as progress:
            self._write(suffix, files, gaussians, cameras, config, progress)
        if not self.quiet:
            size = f"{cameras.width}x{cameras.height}"
            count = f"{len(cameras)} images" if len(cameras) > 1 else "1 image"
            known = self.cameras is not None or source.start is not None
            hint = "" if known else "; camera guessed, see --cameras"
            say(f"wrote {self.output}: {count} of {size} px, {len(gaussians):,} Gaussians{hint}")

    def _check_panorama(self) -> None:
        if self.panorama and self.size:
            width, height = parse_size(self.size)
            if width != 2 * height or width < 4:
                raise UsageError(
                    f"--size of a panorama must be twice as wide as high, found {self.size}; pass "
                    f"{2 * max(2, height)}x{max(2, height)}"
                )

    def _check_idle(self, suffix: str) -> None:
        """Refuse options that this kind of output and image does not have."""
        if suffix != ".mp4":
            refuse_idle(self, ("fps",), f"on {self.output}, which is no video")
        if suffix:
            refuse_idle(self, ("image_format",), f"on {self.output}, which is no folder")
        if suffix in IMAGE_FORMATS:
            refuse_idle(self, ("num_frames", "resume"), f"on {self.output}, which is one image")
        if self.path == "cameras":
            refuse_idle(self, ("num_frames",), "on the given cameras (--path cameras)")
        is_exr = ".exr" in (suffix, f".{self.image_format}")
        if self.background != "transparent" and (self.depth or is_exr):
            kind = "images with alpha (.exr)" if is_exr else "depth"
            refuse_idle(self, ("background",), f"on {kind}")

    def _config(self, antialiased: bool) -> "ImageConfig":
        from recon.export.images import ImageConfig

        return ImageConfig(
            self.background, self.depth, self.depth_unit, self.panorama, self.scale, antialiased
        )

    def _cameras(
        self, gaussians: "Gaussians", suffix: str, source: "SceneSource"
    ) -> tuple["Cameras", list[str]]:
        """Return the cameras to render, relative to the origin, and the names of their images."""
        from render.paths import PATHS

        if self.cameras is None:
            if self.camera_index is not None:
                raise UsageError("--camera-index selects one of --cameras; pass both")
            given, names = self._first_camera(gaussians, source), ["view"]
        else:
            given, names = self._given_cameras(self.cameras, source)
            given = given.to(gaussians.device)
        if self.camera_index is not None:
            index = _camera_index(self.camera_index, names)
            given, names = given[[index]], [names[index]]
        path = self.path or ("orbit" if suffix == ".mp4" else "cameras")
        if self.path is None and self._is_gltf() and len(given) > 1:
            path = "cameras"
        if path != "cameras":
            moved = PATHS[path](
                gaussians, given, self.num_frames if suffix not in IMAGE_FORMATS else 1
            )
            return moved, [f"{i:04d}" for i in range(len(moved))]
        refuse_idle(self, ("num_frames",), "on the given cameras; it is for another --path")
        if suffix in IMAGE_FORMATS:
            return given[[0]], names[:1]
        return given, names

    def _first_camera(self, gaussians: "Gaussians", source: "SceneSource") -> "Cameras":
        """Return the camera that the file tells to start from, or else a guess."""
        from recon.start_camera import fitted, local_start
        from render.guess import default_camera

        size = self._size()
        if source.start is None:
            return default_camera(gaussians, *(size or DEFAULT_SIZE_PX))
        start = local_start(source.start, source.origin).to(gaussians.device)
        if size is None:
            scale = max(DEFAULT_SIZE_PX) / max(start.width, start.height)
            size = max(1, round(scale * start.width)), max(1, round(scale * start.height))
        return fitted(start, *size)

    def _given_cameras(self, path: Path, source: "SceneSource") -> tuple["Cameras", list[str]]:
        """Return the pinhole cameras of a capture, without distortion, at one size."""
        from recon.capture import pinhole_cameras
        from recon.capture.cameras import relative_to
        from recon.capture.gltf_cameras import read_gltf_cameras

        if self._is_gltf():
            capture = read_gltf_cameras(path, source.up_axis())
        else:
            capture = capture_of_scene(path, source.start, photos=False)
            check_capture_stays({"-o": self.output}, capture, self.force)
        size = self._size()
        return pinhole_cameras(relative_to(capture, source.origin), size), _file_names(capture)

    def _is_gltf(self) -> bool:
        path = self.cameras
        return path is not None and path.suffix.lower() in GLTF_EXTENSIONS and path.is_file()

    def _size(self) -> tuple[int, int] | None:
        if self.size:
            return parse_size(self.size)
        return PANORAMA_SIZE_PX if self.panorama else None

    def _write(
        self,
        suffix: str,
        files: list[str],
        gaussians: "Gaussians",
        cameras: "Cameras",
        config: "ImageConfig",
        progress: "StageProgress",
    ) -> None:
        """Render to one image, to a folder, or to a video."""
        from recon.export.images import displayed, render_camera, write_images
        from recon.export.unfinished import move_images
        from recon.files import atomic_output
        from render.video import read_images, write_video

        if suffix in IMAGE_FORMATS:
            with atomic_output(self.output) as temporary:
                write_images([temporary], gaussians, cameras, config, progress)
        elif suffix == ".mp4" and not self.resume:

            def frames() -> "Iterator[Tensor]":
                for i in range(len(cameras)):
                    progress("rendering", i / len(cameras))
                    yield displayed(render_camera(gaussians, cameras[[i]], config), config)

            with atomic_output(self.output) as temporary:
                write_video(temporary, frames(), self.fps)
        else:
            with self._image_folder(files, cameras, config) as folder:
                paths = [folder / name for name in files]
                write_images(paths, gaussians, cameras, config, progress)
                with atomic_output(self.output) as temporary:
                    if suffix:
                        write_video(temporary, read_images(paths), self.fps)
                    else:
                        move_images(folder, files, temporary)

    @contextmanager
    def _image_folder(
        self, files: list[str], cameras: "Cameras", config: "ImageConfig"
    ) -> "Iterator[Path]":
        """Yield the folder to render into: one that is kept on a failure, with --resume."""
        from recon.export.unfinished import settings_of, unfinished_images
        from recon.files import temporary_folder

        if self.resume:
            settings = settings_of(self.scene, cameras, config)
            with unfinished_images(self.output, files, settings) as folder:
                yield folder
        else:
            with temporary_folder(self.output.resolve().parent) as folder:
                yield folder


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
    raise UsageError(
        f"--camera-index {name}: expected an index from 0 to {len(names) - 1} or the name of a "
        f"photo such as {names[0]}"
    )
