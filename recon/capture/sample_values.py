"""Images of more than 8 bits: which of their values is white.

Files with 16 bits often hold 8 or 12 bits only, and floating-point values may be fractions of white
or codes from 0 to 255. The values themselves tell which, with a warning.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image

# Largest values of integers that are believed, the first that none exceeds.
WHITES = (255.0, 4095.0, 65535.0, 2.0**31 - 1)
# Values of 16 bits that may be those of a camera with 14 bits, and what is said then: they may be a
# dark photo as well.
DARK_MAX = 2.0**14 - 1
DARK = (
    "65,535 is taken as white, though no value is above {largest}; if they hold 14 bits, "
    "multiply them by 4, since they are too dark otherwise"
)
# White of floating-point values whose median, where they are not 0, is above 1.
FLOAT_WHITES = (255.0, 65535.0)
# Offset in a PNG of the number of bits.
PNG_DEPTH = 24


class EightBits(NamedTuple):
    """An image with 8 bits a channel."""

    image: Image.Image
    assumed: str = ""
    """What was assumed about its values; empty if nothing."""
    largest: float = 0.0
    """Largest of the values, where `DARK` was assumed."""


def eight_bit(path: Path, image: Image.Image) -> EightBits:
    """Convert an image to 8 bits.

    Args:
        path: Image file.
        image: The opened file. It is returned if Pillow itself converts its values right.
    """
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
    elif _is_deep(path, image):
        # Pillow keeps the upper 8 bits only.
        with path.open("rb") as file:
            found = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None or found.ndim < 3:
            return EightBits(image)
        largest = float(found[..., :3].max(initial=0))
        if largest > WHITES[1]:
            return EightBits(image, DARK, largest) if largest <= DARK_MAX else EightBits(image)
        values = np.ascontiguousarray(found[..., 2::-1])
    else:
        return EightBits(image)
    white, assumed = white_of(values)
    converted = Image.fromarray(_codes(values, white))
    if image.has_transparency_data:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    converted.info.update(image.info)
    converted.format = image.format
    return EightBits(converted, assumed, float(values.max()) if assumed == DARK else 0.0)


def grey_of(path: Path, image: Image.Image) -> Image.Image:
    """Return the grey values of an image, 8 bits, without regard to colour profiles."""
    known = eight_bit(path, image).image
    # Pillow converts CIELAB to nothing else.
    return known.getchannel("L") if known.mode == "LAB" else known.convert("L")


def white_of(values: Shaped[np.ndarray, "h w *c"]) -> tuple[float, str]:
    """Return the value of white, and what was assumed about it (empty for 16 bits)."""
    if values.dtype.kind != "f":
        largest = values.max(initial=0)
        white = next(w for w in WHITES if w >= largest or w == WHITES[-1])
        if white == WHITES[2]:
            return white, DARK if largest <= DARK_MAX else ""
        return white, f"no value is above {white:,.0f}, which is taken as white"
    known = values[np.isfinite(values) & (values > 0)]
    white = 1.0
    if known.size and float(np.median(known)) > 1:
        white = next((w for w in FLOAT_WHITES if w >= known.max()), float(known.max()))
    return white, f"floating-point values are taken as sRGB, of which {white:,g} is white"


def _codes(values: Shaped[np.ndarray, "h w *c"], white: float) -> UInt8[np.ndarray, "h w *c"]:
    scaled = np.nan_to_num(values.astype(np.float64) / white, nan=0.0)
    return (255 * scaled.clip(0, 1)).round().astype(np.uint8)


def _is_deep(path: Path, image: Image.Image) -> bool:
    """Return whether the file has 16 bits a channel, and its pixels are stored upright."""
    if image.format == "TIFF":
        tags = dict(getattr(image, "tag_v2", {}))
        return (
            16 in tags.get(ExifTags.Base.BitsPerSample, ())
            and tags.get(ExifTags.Base.Orientation, 1) == 1
        )
    if image.format != "PNG":
        return False
    with path.open("rb") as file:
        return file.read(PNG_DEPTH + 1)[-1] == 16
