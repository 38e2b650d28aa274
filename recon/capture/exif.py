"""Focal length and orientation from the EXIF data of a photo."""

from pathlib import Path

from recon.capture.images import DECODE_ERRORS, open_image

EXIF_IFD = 0x8769
MODEL, FOCAL_MM, FOCAL_35MM = 0x0110, 0x920A, 0xA405
ORIENTATION = 0x0112
# EXIF orientation -> the down direction of the photo, in pixels (x, y) as they are stored.
DOWN = {3: (0, -1), 4: (0, -1), 5: (1, 0), 6: (1, 0), 7: (-1, 0), 8: (-1, 0)}
# Width of the full-frame sensor that FOCAL_35MM refers to (mm).
FULL_FRAME_MM = 36.0


def exif_focal(path: Path) -> tuple[float | None, str]:
    """Return the focal length, and a string that identifies the camera.

    Returns:
        The focal length in pixels of the image as it is stored, or None if EXIF does not give it;
        and a string that is the same for photos of one camera at one focal length.
    """
    with open_image(path) as image:
        try:
            exif = image.getexif()
            details = exif.get_ifd(EXIF_IFD)
        except DECODE_ERRORS:
            return None, ""
        focal, equivalent = _number(details.get(FOCAL_MM)), _number(details.get(FOCAL_35MM))
        camera = f"{exif.get(MODEL, '')} {focal}"
        return (equivalent / FULL_FRAME_MM * max(image.size) if equivalent > 0 else None), camera


def exif_down(path: Path) -> tuple[int, int]:
    """Return the down direction of the photo, in pixels (x, y) as they are stored."""
    with open_image(path) as image:
        try:
            return DOWN.get(image.getexif().get(ORIENTATION, 1), (0, 1))
        except DECODE_ERRORS:
            return 0, 1


def _number(value: object) -> float:
    """Convert a value to a float; 0 for missing, malformed and non-positive values."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if 0 < number < 1e6 else 0.0
