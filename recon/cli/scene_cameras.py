"""The cameras that see a scene: those of its capture, of its file, or guessed ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon.cli.outputs import check_capture_stays
from recon.cli.scene_capture import capture_of_scene
from recon.errors import counted

if TYPE_CHECKING:
    from recon.formats import SceneSource
    from recon.types import Views
    from render import Cameras, Gaussians


@dataclass(frozen=True)
class SceneCameras:
    """Cameras of one view each, relative to the origin of a scene, and where they are from."""

    cameras: "list[Cameras]"
    """Those that are known, then some between them; or guessed ones."""
    known: int = 0
    """Number of the known ones."""
    origin: str = ""
    """Who knows them."""

    @staticmethod
    def of(known: "list[Cameras]", origin: str) -> "SceneCameras":
        """Return known cameras with some between them, if they are few."""
        from recon.meshing.viewpoints import with_midpoints

        return SceneCameras(with_midpoints(known), len(known), origin)

    def __str__(self) -> str:
        """Say how many there are: "15 cameras (9 of photos, 6 between them)"."""
        count, between = len(self.cameras), len(self.cameras) - self.known
        if not self.known:
            return f"{count} guessed cameras"
        more = f", {between} between them" if between else ""
        return f"{counted(count, 'camera')} ({self.known} of {self.origin}{more})"


def scene_cameras(
    source: "SceneSource",
    gaussians: "Gaussians",
    capture: Path | None,
    resolution: int,
    outputs: Mapping[str, Path | None],
    force: bool,
) -> SceneCameras:
    """Return the cameras of a capture, else those that the scene file keeps, else guessed ones.

    Args:
        source: The scene.
        gaussians: Its Gaussians.
        capture: The capture of --cameras, if there is one.
        resolution: Length of the longer side of the images (px).
        outputs: Files to write, by option, which must not replace the capture's.
        force: Whether they may.
    """
    from recon.capture.cameras import relative_to
    from recon.meshing.viewpoints import capture_cameras, guessed_cameras, kept_cameras

    if capture is None:
        if kept := kept_cameras(source, resolution):
            return SceneCameras.of(kept, "the scene file")
        return SceneCameras(guessed_cameras(source, gaussians, resolution))
    known = capture_of_scene(capture, source.start, photos=False)
    check_capture_stays(outputs, known, force)
    return SceneCameras.of(capture_cameras(relative_to(known, source.origin), resolution), "photos")


def scene_photos(
    source: "SceneSource",
    capture: Path | None,
    resolution: int,
    outputs: Mapping[str, Path | None],
    force: bool,
) -> "Views | None":
    """Return photos of a capture with their cameras, spread over the scene; None if it has none.

    Args:
        source: The scene.
        capture: The capture of --cameras, if there is one.
        resolution: Length of the longer side of the photos (px).
        outputs: Files to write, by option, which must not replace the capture's.
        force: Whether they may.
    """
    from recon.capture import load_views
    from recon.capture.cameras import relative_to
    from recon.meshing.viewpoints import MAX_CAMERAS

    if capture is None:
        return None
    known = capture_of_scene(capture, source.start, photos=False)
    if not any(frame.image_path.is_file() for frame in known.frames):
        return None
    check_capture_stays(outputs, known, force)
    moved = relative_to(capture_of_scene(capture, source.start), source.origin)
    return load_views(moved, resolution, max_views=MAX_CAMERAS)
