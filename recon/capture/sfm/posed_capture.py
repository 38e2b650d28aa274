"""A capture with cameras, and its export as a COLMAP project."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from recon.capture.cameras import transform_frame, world_transform
from recon.capture.gps import Geodetic, gps_frame
from recon.capture.isolated import run_script
from recon.capture.markers import marker_transform
from recon.capture.names import portable
from recon.capture.sfm.outcome import FILE_NAME
from recon.capture.types import Capture, Frame
from recon.errors import ConfigError, InputError
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
    gps_origin: Geodetic | None = None
    """Where the origin is: latitude and longitude (degrees) and altitude (m), if the world frame is
    that of GPS positions."""

    def transformed(self, scale: float, center: bool) -> "PosedCapture":
        """Scale the world frame, and move its origin to the mean camera centre if `center`."""
        transform = world_transform(self.capture.frames, scale, center)
        return self if transform is None else self.moved(transform)

    def in_metres(self, marker_size: float | None, gps: bool) -> "PosedCapture":
        """Move the world frame to that of markers, or of GPS positions if they agree.

        Raises:
            ConfigError: GPS positions are to be used, but cameras are given.
            InputError: There are no markers, or no GPS positions.
        """
        solved = self.camera_source == "solved"
        if marker_size is not None:
            return self.moved(marker_transform(self.capture.frames, marker_size, level=solved))
        if not gps:
            return self
        if not solved:
            raise ConfigError(
                f"gps is for estimated cameras, and those of {self.capture.title} are "
                f"{self.camera_source}; omit it",
                "gps",
            )
        found = gps_frame(self.capture.frames)
        if found is None:
            return self
        return replace(self.moved(found.transform), gps_origin=found.origin)

    def moved(self, transform: Sim3) -> "PosedCapture":
        """Transform the world frame."""
        frames = tuple(transform_frame(frame, transform) for frame in self.capture.frames)
        before = self.capture_from_model
        both = transform if before is None else transform.after(before)
        return replace(self, capture=replace(self.capture, frames=frames), capture_from_model=both)

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
    t = target_from_source
    values = t.scale, *t.translation, *t.rotmat.flatten()
    arguments = ["transform", str(source), str(target), *(str(float(value)) for value in values)]
    reason = run_script("colmap_model.py", arguments, TRANSFORM_LIMIT_S)
    if reason is not None:
        raise InputError(f"cannot write the COLMAP model to {target}: {reason}")
