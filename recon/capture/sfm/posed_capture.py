"""A capture with cameras, and its export as a COLMAP project."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from recon.capture.cameras import transform_frame, world_transform
from recon.capture.isolated import run_script
from recon.capture.names import portable
from recon.capture.sfm.outcome import FILE_NAME
from recon.capture.types import Capture, Frame
from recon.errors import InputError
from recon.files import atomic_output
from render import Sim3

CameraSource = Literal["given", "solved", "none"]
# Time limit for rewriting the largest model that recon solves (s).
TRANSFORM_LIMIT_S = 120.0


@dataclass(frozen=True)
class PosedCapture:
    """A capture in which every photo has a camera, and where these cameras come from."""

    capture: Capture
    """The photos whose camera is known."""
    camera_source: CameraSource
    """`given` by the capture, `solved` by structure from motion, or `none`: a single photo, whose
    camera is placed at the origin."""
    unregistered: tuple[str, ...] = ()
    """Names of the photos whose cameras could not be solved."""
    colmap_model: Path | None = None
    """Folder of the COLMAP model of the original photos; None unless the cameras were solved."""
    capture_from_model: Sim3 | None = None
    """From the world frame of the COLMAP model to that of the capture; None for the identity."""

    def transformed(self, scale: float, center: bool) -> "PosedCapture":
        """Scale the world frame, and move its origin to the mean camera centre if `center`."""
        transform = world_transform(self.capture.frames, scale, center)
        if transform is None:
            return self
        frames = tuple(transform_frame(frame, transform) for frame in self.capture.frames)
        return replace(
            self, capture=replace(self.capture, frames=frames), capture_from_model=transform
        )

    def with_viewmats(self, viewmats: Mapping[str, Tensor]) -> "PosedCapture":
        """Replace the poses of the named photos."""

        def corrected(frame: Frame) -> Frame:
            if frame.camera is None or frame.name not in viewmats:
                return frame
            viewmat = viewmats[frame.name].cpu().double()
            return replace(frame, camera=replace(frame.camera, viewmat=viewmat))

        frames = tuple(corrected(frame) for frame in self.capture.frames)
        return replace(self, capture=replace(self.capture, frames=frames))


def export_colmap(posed: PosedCapture, folder: Path) -> None:
    """Write a COLMAP project that other tools can train from.

    It has copies of the photos in `images`, and in `sparse/0` the solved model for their original
    sizes, in the world frame of the capture.

    Raises:
        InputError: The cameras were not solved, or the folder cannot be written.
    """
    if posed.colmap_model is None:
        raise InputError(f"nothing to write into {folder}: no cameras were solved")
    with atomic_output(folder) as temporary:
        model = temporary / "sparse" / "0"
        _copy_model(posed.colmap_model, model, posed.capture_from_model)
        for frame in posed.capture.frames:
            target = temporary / "images" / portable(frame.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(frame.image_path, target)


def _copy_model(source: Path, target: Path, target_from_source: Sim3 | None) -> None:
    if target_from_source is None:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(FILE_NAME))
        return
    target.mkdir(parents=True)
    values = target_from_source.scale, *target_from_source.translation
    arguments = ["transform", str(source), str(target), *(str(float(value)) for value in values)]
    reason = run_script("colmap_model.py", arguments, TRANSFORM_LIMIT_S)
    if reason is not None:
        raise InputError(f"cannot write the COLMAP model to {target}: {reason}")
