"""The capture of `--cameras`: the photos that a scene was made from, with their cameras."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recon.errors import InputError, ReconError

if TYPE_CHECKING:
    from recon.capture import Capture
    from render import Cameras

# Distance of the scene's first camera from the camera that was solved for the same photo, over
# the distance between cameras: above it, the scene is in another frame or of another scale.
FRAME_TOLERANCE = 1e-4


def capture_of_scene(path: Path, start: "Cameras | None", photos: bool = True) -> "Capture":
    """Load the capture of a scene with its cameras, in the world frame.

    Photos without cameras get those that were solved for them when the scene was made, if these
    are in the cache and the first camera that the scene file keeps is one of them: cameras that
    were solved, but then scaled, moved or corrected, are not those of the scene.

    Args:
        path: The capture of --cameras.
        start: The first camera that the scene file keeps, if it does.
        photos: Whether photos must exist (see `load_capture`).

    Raises:
        InputError: The capture cannot be read, or it has no cameras.
    """
    from recon.capture import load_capture

    capture = load_capture(path, photos=photos)
    if capture.has_cameras:
        return capture
    solved = None
    if start is not None:
        # What the cameras were solved for are the photos that can be read, with their masks.
        solved = _solved_for(capture if photos else load_capture(path), start)
    if solved is None:
        raise InputError(
            f"--cameras: {path} has no cameras, and none are stored that were solved for this "
            "scene; expected a capture with cameras, such as the file that `recon PHOTOS -o SCENE "
            "--save-cameras cameras.json` writes; or leave --cameras out"
        )
    return solved


def _solved_for(capture: "Capture", start: "Cameras") -> "Capture | None":
    """Return a capture with the cameras that an earlier run solved, if the scene has them.

    Whether masks were inverted then, the scene does not tell.
    """
    from recon.capture.sfm import SolveConfig, solved_before

    is_masked = any(frame.mask_path is not None for frame in capture.frames)
    for inverted in (False, True) if is_masked else (False,):
        frames = tuple(replace(frame, mask_inverted=inverted) for frame in capture.frames)
        try:
            posed = solved_before(replace(capture, frames=frames), SolveConfig())
        except ReconError:
            # All photos are copies of one.
            return None
        if posed is not None and _has_camera(posed.capture, start):
            return posed.capture
    return None


def _has_camera(capture: "Capture", start: "Cameras") -> bool:
    """Return whether a camera stands where one of a capture does."""
    import torch

    from render.cameras import camera_centers

    found = [f.camera.viewmat.double() for f in capture.frames if f.camera is not None]
    centers = camera_centers(torch.stack(found))
    nearest = (centers - camera_centers(start.viewmats.double())).norm(dim=1).min()
    extent = (centers - centers.mean(0)).norm(dim=1).max()
    return bool(nearest <= FRAME_TOLERANCE * extent)
