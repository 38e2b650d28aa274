"""Frames of captures with cameras: invalid ones are left out, and photos are taken once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from recon.capture.orientation import Size, photo_size, same_shape
from recon.capture.types import Frame
from recon.errors import InputError, LeftOutWarning, listed, warn

# A name for messages, the photo (None if it is missing, which is told already), and a function that
# makes the frame of the photo.
Entry = tuple[str, Path | None, Callable[[Path], Frame]]


def valid_frames(
    where: str, entries: Sequence[Entry], photos: bool = True
) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """Make the frames of a capture, and warn of those that are invalid or have the same photo.

    Args:
        where: The file with the cameras, for messages.
        entries: One for each frame.
        photos: Whether the photos exist, so that their shapes can be compared to the cameras'.

    Returns:
        The frames, and the names of those that are left out or whose photo is missing.

    Raises:
        InputError: All frames are invalid; the error is that of the first.
    """
    frames: dict[Path, Frame] = {}
    errors: dict[str, InputError] = {}
    repeated: list[str] = []
    for name, photo, make in entries:
        if photo is not None and photo in frames:
            repeated.append(name)
        elif photo is not None:
            try:
                frame = make(photo)
                if photos and frame.camera is not None:
                    size = frame.camera.width, frame.camera.height
                    check_shape(photo_size(frame), size, photo)
                frames[photo] = frame
            except InputError as error:
                # Names of files may lack the extension, or be those of another computer.
                errors[name if name.endswith(photo.name) else photo.name] = error
    if errors:
        _tell(where, errors, len(entries), bool(frames))
    if repeated:
        warn(
            f"{where} has photos several times, of which the first is used: "
            f"{listed(list(dict.fromkeys(repeated)))}"
        )
    missing = [name for name, photo, _ in entries if photo is None]
    return tuple(frames.values()), (*missing, *errors)


def _tell(where: str, errors: dict[str, InputError], count: int, others: bool) -> None:
    """Warn of the frames that are left out, or raise the first error if there are no others."""
    first = next(iter(errors.values()))
    if not others:
        raise first
    warn(
        f"{where}: left out {len(errors)} of {count} photos, {listed(list(errors))}: {first}",
        LeftOutWarning,
    )


def check_shape(found: Size, camera: Size, photo: Path) -> None:
    """Raise InputError if a photo of this (width, height) is not of its camera's aspect ratio."""
    if not same_shape(found, camera):
        raise InputError(
            f"{photo} is {found[0]}x{found[1]} px but its camera is for {camera[0]}x{camera[1]}; "
            "expected the same aspect ratio; correct the size in the camera file or use the "
            "original image"
        )
