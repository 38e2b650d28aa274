"""What the camera wrote into a photo about itself."""

from pathlib import Path

from recon.capture.images import DECODE_ERRORS, opened

EXIF_IFD = 0x8769
MODEL, FOCAL_MM, FOCAL_35MM = 0x0110, 0x920A, 0xA405
ORIENTATION = 0x0112
# EXIF orientation -> what is down in the photo, in pixels (x, y) as they are stored.
DOWN = {3: (0, -1), 4: (0, -1), 5: (1, 0), 6: (1, 0), 7: (-1, 0), 8: (-1, 0)}
# Width of the film that focal lengths are converted to (mm).
FILM_MM = 36.0


def exif_focal(path: Path) -> tuple[float | None, str]:
    """Focal length in pixels of the picture as it is stored, if the photo tells; and a text that is
    the same for photos of one camera at one focal length."""
    with opened(path) as image:
        try:
            exif = image.getexif()
            details = exif.get_ifd(EXIF_IFD)
        except DECODE_ERRORS:
            return None, ""
        focal, film = _number(details.get(FOCAL_MM)), _number(details.get(FOCAL_35MM))
        camera = f"{exif.get(MODEL, '')} {focal}"
        return (film / FILM_MM * max(image.size) if film > 0 else None), camera


def exif_down(path: Path) -> tuple[int, int]:
    """What is down in the photo, in pixels (x, y) as they are stored."""
    with opened(path) as image:
        try:
            return DOWN.get(image.getexif().get(ORIENTATION, 1), (0, 1))
        except DECODE_ERRORS:
            return 0, 1


def _number(value: object) -> float:
    """0 for what is missing, broken or not positive."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if 0 < number < 1e6 else 0.0
