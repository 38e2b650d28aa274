"""`recon render SCENE -o OUT`: pictures and video of a scene."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from recon.errors import ReconError
from recon.reporting import parse_size, progress_reporter, say

if TYPE_CHECKING:
    from torch import Tensor

    from recon.capture import Capture
    from render import Cameras, Gaussians

PICTURES = (".png", ".jpg", ".jpeg")
DEFAULT_SIZE_PX = (768, 512)
BACKGROUNDS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5)}


@dataclass(frozen=True)
class Render:
    """Render a scene file to a picture, a folder of pictures or a video."""

    scene: tyro.conf.Positional[Path]
    """Scene file (.ply, .compressed.ply, .splat, .spz, .sog, .glb)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Picture (.png, .jpg), video (.mp4), or a folder for one picture a camera."""
    cameras: Path | None = None
    """Capture or transforms.json (its photos need not be there) whose cameras to use; without,
    where photos may have been."""
    view: str | None = None
    """Which of those cameras: its photo's name or its number from 0; default the first."""
    path: Literal["orbit", "wave", "interpolate"] | None = None
    """Move the camera along a path; a video without one is an orbit."""
    size: str | None = None
    """Picture size, WIDTHxHEIGHT (px); default the camera's own, long side at most 768."""
    frames: int = 60
    """Number of pictures along a path (frames)."""
    fps: float = 30.0
    """Speed of a video (frames per second)."""
    depth: bool = False
    """Show depth in colours (near = red) instead of the picture."""
    background: Literal["black", "white", "grey"] = "black"
    """Colour behind the scene."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    quiet: bool = False
    """Print nothing but errors."""

    def run(self) -> None:
        """Find the cameras, render one view at a time, write whole outputs only."""
        from recon.devices import choose_render_device
        from recon.files import check_output
        from recon.formats import load_gaussians

        suffix = self.output.suffix.lower()
        if suffix not in (*PICTURES, ".mp4", ""):
            raise ReconError(
                f"cannot write {self.output}: unknown picture format {suffix}; "
                f"expected {', '.join(PICTURES)}, .mp4 or a folder"
            )
        if self.frames < 1 or not 0 < self.fps <= 240:
            raise ReconError("--frames must be at least 1 and --fps between 0 and 240")
        check_output(self.output)
        gaussians = load_gaussians(self.scene).to(choose_render_device(self.device))
        if len(gaussians) == 0:
            raise ReconError(f"{self.scene} holds no Gaussians: nothing to render")
        cameras, names = self._cameras(gaussians, suffix)
        with progress_reporter(self.quiet) as progress:
            pictures = self._pictures(gaussians, cameras, progress)
            self._write(suffix, pictures, names)
        if not self.quiet:
            size = f"{cameras.width}x{cameras.height}"
            count = f"{len(cameras)} pictures" if len(cameras) > 1 else "1 picture"
            view = "" if self.cameras else "; place guessed, give --cameras for the photos' views"
            say(f"wrote {self.output}: {count} of {size} px, {len(gaussians):,} Gaussians{view}")

    def _cameras(self, gaussians: "Gaussians", suffix: str) -> tuple["Cameras", list[str]]:
        """The cameras to render and the names of their pictures."""
        from render.guess import default_camera
        from render.paths import PATHS

        width, height = parse_size(self.size) if self.size else DEFAULT_SIZE_PX
        if self.cameras is None:
            if self.view is not None:
                raise ReconError("--view chooses one of the cameras of --cameras; give that too")
            given, names = default_camera(gaussians, width, height), ["view"]
        else:
            given, names = _given_cameras(
                self.cameras, parse_size(self.size) if self.size else None
            )
            given = given.to(gaussians.device)
        if self.view is not None:
            index = _view_index(self.view, names)
            given, names = given[[index]], [names[index]]
        path = self.path or ("orbit" if suffix == ".mp4" else None)
        if path is not None:
            moved = PATHS[path](gaussians, given, self.frames if suffix not in PICTURES else 1)
            return moved, [f"{i:04d}" for i in range(len(moved))]
        if suffix in PICTURES:
            return given[[0]], names[:1]
        return given, names

    def _pictures(self, gaussians: "Gaussians", cameras: "Cameras", progress) -> "Iterator[Tensor]":
        import torch

        from render import rasterize
        from render.video import depth_to_color

        color = torch.tensor([BACKGROUNDS[self.background]]).to(gaussians.means)
        for i in range(len(cameras)):
            progress("rendering", i / len(cameras))
            with torch.no_grad():
                shown = rasterize(gaussians, cameras[[i]], color)
            if self.depth:
                yield depth_to_color(shown.expected_depth[0], shown.alpha[0])
            else:
                yield shown.rgb[0]

    def _write(self, suffix: str, pictures: "Iterator[Tensor]", names: list[str]) -> None:
        from recon.files import atomic_output
        from render.video import write_image, write_video

        with atomic_output(self.output) as temporary:
            if suffix == ".mp4":
                write_video(temporary, pictures, self.fps)
            elif suffix in PICTURES:
                write_image(temporary, next(pictures))
            else:
                temporary.mkdir()
                for name, picture in zip(names, pictures, strict=True):
                    write_image(temporary / f"{name}.png", picture)


def _given_cameras(path: Path, size: tuple[int, int] | None) -> tuple["Cameras", list[str]]:
    """Pinhole cameras of a capture (distortion left out) at one size."""
    from recon.capture import load_capture, pinhole_cameras

    capture = load_capture(path, photos=False)
    if not capture.has_cameras:
        raise ReconError(f"{path} has no cameras; expected a capture with known cameras")
    return pinhole_cameras(capture, size), _file_names(capture)


def _file_names(capture: "Capture") -> list[str]:
    """The photos' names without folder and extension; numbered when they clash."""
    names = [Path(frame.name).stem for frame in capture.frames]
    if len(set(names)) == len(names):
        return names
    return [f"{i:04d}_{name}" for i, name in enumerate(names)]


def _view_index(view: str, names: list[str]) -> int:
    if Path(view).stem in names:
        return names.index(Path(view).stem)
    if view.isdigit() and int(view) < len(names):
        return int(view)
    raise ReconError(
        f"--view {view}: expected a number from 0 to {len(names) - 1} or a photo's name such as "
        f"{names[0]}"
    )
