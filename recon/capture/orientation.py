"""Orientation of photos by EXIF, and which of the two shapes a given camera belongs to."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from recon.capture.exif import exif_orientation
from recon.capture.images import image_size
from recon.capture.types import Capture, Frame
from recon.errors import InputError, listed, warn

# EXIF orientations that exchange width and height, with the number of quarter rotations
# counterclockwise from the photo as shown to its stored pixels; those that mirror it as well have
# none.
QUARTER_ROTATIONS = {5: None, 6: 1, 7: None, 8: -1}
# Those that mirror.
MIRRORED = (2, 4, 5, 7)
# Relative difference of aspect ratios up to which they count as the same.
SHAPE_TOLERANCE = 0.01

Size = tuple[int, int]


def photo_size(frame: Frame) -> Size:
    """Return (width, height) of a photo as its camera sees it."""
    size = image_size(frame.image_path)
    return _swapped(size) if frame.oriented and _rotated(frame.image_path) else size


def same_shape(a: Size, b: Size) -> bool:
    """Return whether two sizes (width, height) have the same aspect ratio."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= SHAPE_TOLERANCE * a[0] * b[1]


def fits_oriented(path: Path, size: Size) -> bool:
    """Return whether a camera for `size` belongs to the photo as shown and not as stored.

    Without a readable photo it does not.
    """
    try:
        stored = image_size(path)
        fits = same_shape(size, _swapped(stored)) and not same_shape(size, stored)
        return fits and _rotated(path)
    except InputError:
        return False


def size_for_center(path: Path, center: tuple[float, float] | None) -> tuple[Size, bool]:
    """Return the size of the photo that a principal point is nearest to the middle of.

    Args:
        path: The photo.
        center: Principal point (px); None takes the photo as it is stored.

    Returns:
        (width, height), and whether this is the photo as EXIF says to rotate it.
    """
    stored = image_size(path)
    shown = _swapped(stored)
    if stored == shown or not _rotated(path):
        return stored, False
    if center is None:
        # The text is the same for all photos, so that it is told once.
        warn(
            f"{path.parent}: the cameras of photos that EXIF rotates, without size and principal "
            "point, are taken to be those of the photos as they are stored"
        )
        return stored, False
    distances = [np.hypot(center[0] - w / 2, center[1] - h / 2) for w, h in (stored, shown)]
    oriented = bool(distances[1] < distances[0])
    return (shown if oriented else stored), oriented


def mask_as_stored(
    mask: UInt8[np.ndarray, "h w"], frame: Frame, size: Size
) -> UInt8[np.ndarray, "_ _"]:
    """Return a mask that has the shape of its photo, rotated if it was made as EXIF shows it.

    Args:
        mask: The mask, of any size.
        frame: Its photo.
        size: (width, height) of the photo's pixels.

    Raises:
        InputError: It has another aspect ratio.
    """
    found = mask.shape[1], mask.shape[0]
    if same_shape(found, size):
        return mask
    rotations = QUARTER_ROTATIONS.get(exif_orientation(frame.image_path))
    if same_shape(_swapped(found), size) and rotations is not None and not frame.oriented:
        return np.rot90(mask, rotations)
    raise InputError(
        f"the mask {frame.mask_path} is {found[0]}x{found[1]} px and its photo {frame.name} "
        f"{size[0]}x{size[1]}; expected the same aspect ratio; correct or remove the mask"
    )


def warn_of_orientation(capture: Capture) -> None:
    """Warn of photos whose EXIF rotation their cameras include, or may include.

    Half rotations, mirrored photos and square ones have the same shape with it and without.
    """
    rotated = [frame.name for frame in capture.frames if frame.oriented]
    if rotated:
        warn(
            f"{capture.title}: {len(rotated)} of {len(capture.frames)} photos are rotated as EXIF "
            f"says, since their cameras have this shape: {listed(rotated)}"
        )
    mirrored = [
        frame.name for frame in capture.frames if frame.camera is None and _is_mirrored(frame)
    ]
    if mirrored:
        warn(
            f"{capture.title}: {len(mirrored)} of {len(capture.frames)} photos are mirrored by "
            f"EXIF, which is not applied, so that the scene is mirrored: {listed(mirrored)}; apply "
            "it to the photos first (mogrify -auto-orient)"
        )
    doubtful = [
        frame.name
        for frame in capture.frames
        if frame.camera is not None and not frame.oriented and _doubtful(frame)
    ]
    if doubtful:
        warn(
            f"{capture.title}: the cameras of photos that EXIF rotates are taken to be those of "
            f"the photos as they are stored: {listed(doubtful)}; if the scene is wrong, rotate the "
            "photos and remove their EXIF orientation"
        )


def _is_mirrored(frame: Frame) -> bool:
    try:
        return exif_orientation(frame.image_path) in MIRRORED
    except InputError:
        return False


def _doubtful(frame: Frame) -> bool:
    try:
        orientation = exif_orientation(frame.image_path)
        size = image_size(frame.image_path)
    except InputError:
        return False
    rotated = orientation in QUARTER_ROTATIONS and same_shape(size, _swapped(size))
    return rotated or orientation in (2, 3, 4)


def _swapped(size: Size) -> Size:
    return size[1], size[0]


def _rotated(path: Path) -> bool:
    return exif_orientation(path) in QUARTER_ROTATIONS
