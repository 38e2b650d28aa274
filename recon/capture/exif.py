"""Focal length and orientation from the EXIF data of photos."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from recon.capture.images import (
    DECODE_ERRORS,
    exif_of,
    exif_value,
    image_size,
    open_image,
    orientation_of,
)
from recon.errors import listed, warn
from recon.photo_extensions import is_raw

ORIENTATION = int(ExifTags.Base.Orientation)
# 35 mm equivalent of the focal length.
EQUIVALENT = 0xA405
# EXIF orientation -> the down direction of the photo, in pixels (x, y) as they are stored.
DOWN = {3: (0, -1), 4: (0, -1), 5: (1, 0), 6: (1, 0), 7: (-1, 0), 8: (-1, 0)}
# Width of the full-frame sensor that 35 mm equivalents refer to (mm).
FULL_FRAME_MM = 36.0
# Equivalents of real lenses (mm), from fisheyes to superzooms, and their ratio to the focal length:
# from digital medium format (0.6) to the sensors of action cameras and webcams.
EQUIVALENT_MM, CROP_FACTOR = (7.0, 3000.0), (0.4, 20.0)
# Relative difference of equivalents, which are whole numbers, that count as the same.
TOLERANCE = 0.05


@dataclass(frozen=True)
class ExifFocal:
    """What EXIF says about the lens of a photo."""

    focal_px: float | None
    """Focal length in pixels of the photo as it is stored; None if it is not known."""
    camera: str
    """The same text for photos of one camera at one focal length."""


@dataclass(frozen=True)
class _Lens:
    model: str
    focal_mm: float
    equivalent_mm: float
    """0 if EXIF does not give it."""
    zoom: float
    """Digital zoom, which the equivalent includes."""

    @property
    def is_plausible(self) -> bool:
        crop = self.equivalent_mm / self.focal_mm if self.focal_mm > 0 else 1.0
        low, high = CROP_FACTOR
        return EQUIVALENT_MM[0] <= self.equivalent_mm <= EQUIVALENT_MM[1] and low <= crop <= high


def exif_focals(files: Sequence[Path]) -> list[ExifFocal]:
    """Return what EXIF says about the lenses of photos.

    A focal length that cannot be right, or differs from that of most photos of the same camera at
    the same setting of the lens, is taken from those, if there are any; `warn_of_focals` names it.
    """
    lenses, believed = _lenses(files)
    return [
        ExifFocal(
            mm / FULL_FRAME_MM * max(image_size(file)) if mm > 0 else None,
            f"{lens.model} {lens.focal_mm}",
        )
        for file, lens, mm in zip(files, lenses, believed, strict=True)
    ]


def _lenses(files: Sequence[Path]) -> tuple[list[_Lens], list[float]]:
    """Return what EXIF says, and the equivalents to use (mm; 0 for none)."""
    lenses = [_lens(file) for file in files]
    settings: dict[tuple[str, float, float], list[float]] = defaultdict(list)
    for lens in lenses:
        if lens.is_plausible:
            settings[lens.model, lens.focal_mm, lens.zoom].append(lens.equivalent_mm)
    usual = {setting: _usual(values) for setting, values in settings.items()}
    return lenses, [_believed(lens, usual) for lens in lenses]


def _usual(values: Sequence[float]) -> float | None:
    """Return the equivalent that most photos have; None if there is no majority."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _believed(lens: _Lens, usual: dict[tuple[str, float, float], float | None]) -> float:
    """Return the equivalent to use (mm); 0 for none."""
    # Without a focal length, photos of a zoom lens may differ rightly.
    agreed = usual.get((lens.model, lens.focal_mm, lens.zoom)) if lens.focal_mm > 0 else None
    if agreed is not None and lens.equivalent_mm > 0:
        close = abs(lens.equivalent_mm - agreed) <= TOLERANCE * agreed
        return lens.equivalent_mm if close else agreed
    return lens.equivalent_mm if lens.is_plausible else 0.0


def warn_of_focals(files: Sequence[Path]) -> None:
    """Warn of photos whose focal length in EXIF is not believed."""
    lenses, believed = _lenses(files)
    wrong: dict[float, list[str]] = defaultdict(list)
    for file, lens, mm in zip(files, lenses, believed, strict=True):
        if lens.equivalent_mm not in (0, mm):
            wrong[mm].append(f"{file.name} ({lens.equivalent_mm:g} mm)")
    for mm, names in wrong.items():
        instead = f"{mm:g} mm as for most photos is used" if mm > 0 else "it is not used"
        warn(
            "EXIF gives a 35 mm equivalent focal length that cannot be right, and "
            f"{instead}, for {len(names)} of {len(files)} photos: {listed(names)}"
        )


def _lens(path: Path) -> _Lens:
    try:
        with open_metadata(path) as (exif, _):
            model = exif_value(exif, ExifTags.Base.Model)
            tags = ExifTags.Base.FocalLength, EQUIVALENT, ExifTags.Base.DigitalZoomRatio
            focal, equivalent, zoom = (
                _number(exif_value(exif, tag, ExifTags.IFD.Exif)) for tag in tags
            )
    except DECODE_ERRORS:
        return _Lens("", 0.0, 0.0, 1.0)
    return _Lens(str(model or ""), focal, equivalent, zoom or 1.0)


def exif_orientation(path: Path) -> int:
    """Return the orientation by EXIF, 1 to 8; 1 (as stored) if EXIF does not give a valid one."""
    try:
        with open_metadata(path) as (exif, image):
            return orientation_of(exif, image)
    except DECODE_ERRORS:
        return 1


def exif_down(path: Path) -> tuple[int, int]:
    """Return the down direction of the photo, in pixels (x, y) as they are stored."""
    return DOWN.get(exif_orientation(path), (0, 1))


@contextmanager
def open_metadata(path: Path) -> Iterator[tuple[Image.Exif, Image.Image | None]]:
    """Open the EXIF data of a photo, and the photo unless it is RAW; its pixels are not decoded."""
    if is_raw(path):
        # Most RAW formats are TIFF files.
        with path.open("rb") as file:
            exif = Image.Exif()
            exif.load_from_fp(file)
            yield exif, None
    else:
        with open_image(path) as image:
            yield exif_of(image), image


def _number(value: object) -> float:
    """Convert a value to a float; 0 for missing, malformed and non-positive values."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if 0 < number < 1e6 else 0.0
