"""Frames of captures with cameras: invalid ones are left out, and photos are taken once."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from recon.capture.orientation import Size, photo_size, same_shape
from recon.capture.types import DistortionModel, Frame, FrameCamera
from recon.capture.undistort import usable_fractions
from recon.errors import InputError, LeftOutWarning, listed, warn

# A name for messages, the photo (None if it is missing, which is told already), and a function that
# makes the frame of the photo.
Entry = tuple[str, Path | None, Callable[[Path], Frame]]
# A distortion that leaves less of the image than this is wrong.
MIN_USABLE = 0.25
# Fractions of the image beyond a fold of the distortion, and used, that are not worth a warning.
MAX_FOLDED, MIN_QUIET = 0.01, 0.75


class TooFewCameras(InputError):
    """Only one camera of a file can be used, which a reconstruction cannot begin with."""


def valid_frames(
    where: str, entries: Sequence[Entry], photos: bool = True, num_needed: int = 2
) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """Make the frames of a capture, and warn of those that are invalid or have the same photo.

    Args:
        where: The file with the cameras, for messages.
        entries: One for each frame.
        photos: Whether the photos exist, so that their shapes can be compared to the cameras'.
        num_needed: Number of cameras that must be valid if some are not: a reconstruction needs
            two, a render one.

    Returns:
        The frames, and the names of those that are left out or whose photo is missing.

    Raises:
        InputError: No frame is valid; the error is that of the first.
        TooFewCameras: Fewer frames than needed are valid. It does not say what to do, which depends
            on whether the cameras are then estimated.
    """
    frames: dict[Path, Frame] = {}
    errors: dict[str, InputError] = {}
    repeated: list[str] = []
    usable: dict[Path, int] = {}
    for name, photo, make in entries:
        if photo is not None and photo in frames:
            repeated.append(name)
        elif photo is not None:
            try:
                frame = make(photo)
                if photos and frame.camera is not None:
                    size = frame.camera.width, frame.camera.height
                    check_shape(photo_size(frame), size, photo)
                    usable[photo] = _usable_percent(frame.camera, name)
                frames[photo] = frame
            except InputError as error:
                # Names of files may lack the extension, or be those of another computer.
                errors[name if name.endswith(photo.name) else photo.name] = error
    if errors:
        _tell(where, errors, len(entries), len(frames), num_needed)
    _tell_distortion(where, {frames[p].name: percent for p, percent in usable.items()})
    if repeated:
        warn(
            f"{where} has photos several times, of which the first is used: "
            f"{listed(list(dict.fromkeys(repeated)))}"
        )
    missing = [name for name, photo, _ in entries if photo is None]
    return tuple(frames.values()), (*missing, *errors)


def _tell(
    where: str, errors: dict[str, InputError], count: int, num_others: int, num_needed: int
) -> None:
    """Warn of the frames that are left out, or raise an error if too few others are left."""
    first = next(iter(errors.values()))
    if num_others == 0:
        raise first
    if num_others < num_needed:
        text = f"{where}: of its {count} cameras, only one can be used: {first}"
        raise TooFewCameras(text) from first
    warn(
        f"{where}: left out {len(errors)} of {count} photos, {listed(list(errors))}: {first}",
        LeftOutWarning,
    )


def _usable_percent(camera: FrameCamera, name: str) -> int:
    """Return how much of the image a distortion leaves; 100 if no more is lost than by cropping."""
    if camera.distortion in ("none", "lens"):
        return 100
    intrinsics = tuple(camera.K.flatten().tolist())
    usable, folded = _fractions(
        camera.distortion, camera.coefficients, intrinsics, camera.width, camera.height
    )
    if usable < MIN_USABLE:
        values = ", ".join(f"{value:g}" for value in camera.coefficients)
        raise InputError(
            f"the lens distortion of {name} ({values}) cannot be inverted: only {usable:.0%} of "
            "the photo would be left; correct its coefficients or undistort the photos first"
        )
    return 100 if folded <= MAX_FOLDED and usable >= MIN_QUIET else int(100 * usable)


@functools.lru_cache(maxsize=1000)
def _fractions(
    model: DistortionModel,
    coefficients: tuple[float, ...],
    K: tuple[float, ...],
    width: int,
    height: int,
) -> tuple[float, float]:
    matrix = torch.tensor(K, dtype=torch.float64).reshape(3, 3)
    pose = torch.eye(4, dtype=torch.float64)
    return usable_fractions(FrameCamera(pose, matrix, width, height, model, coefficients))


def _tell_distortion(where: str, percents: dict[str, int]) -> None:
    """Warn of photos of which a distortion leaves less than usual."""
    cut = {name: percent for name, percent in percents.items() if percent < 100}
    if cut:
        warn(
            f"{where}: the lens distortion of {len(cut)} of {len(percents)} photos cannot be "
            f"inverted over the whole image, of which {min(cut.values())} % or more are used: "
            f"{listed(list(cut))}; check the coefficients if this is too little"
        )


def check_shape(found: Size, camera: Size, photo: Path) -> None:
    """Raise InputError if a photo of this (width, height) is not of its camera's aspect ratio."""
    if not same_shape(found, camera):
        raise InputError(
            f"{photo} is {found[0]}x{found[1]} px but its camera is for {camera[0]}x{camera[1]}; "
            "expected the same aspect ratio; correct the size in the camera file or use the "
            "original image"
        )
