"""Image files: finding them in folders, and reading them into arrays."""

import re
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from recon.errors import InputError, MissingDependency

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif")
# Larger photos exist, but a decompression bomb must not exhaust the memory of the machine.
Image.MAX_IMAGE_PIXELS = 400_000_000
# Exceptions of Pillow and its plugins for damaged files.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    Image.DecompressionBombError,
)


def is_image(path: Path) -> bool:
    """Return whether a file name is that of an image recon reads; hidden files do not count."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key that puts photo 2 before photo 10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in natural order; empty if there is no such folder."""
    return sorted(filter(is_image, folder.glob("*")), key=lambda path: natural_key(path.name))


def image_size(path: Path) -> tuple[int, int]:
    """Read (width, height) as stored from the header; InputError if the file is unreadable."""
    with open_image(path) as image:
        return image.size


def read_image(
    path: Path, apply_orientation: bool
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None]:
    """Read colours and alpha (None if opaque), float32 in [0, 1]; see `read_pixels`."""
    colors, alpha = read_pixels(path, apply_orientation)
    unit = np.float32(255)
    return colors / unit, None if alpha is None else alpha / unit


def read_pixels(
    path: Path, apply_orientation: bool
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    """Read colours and alpha (None if opaque), display sRGB in 0 to 255, not premultiplied.

    Args:
        path: Image file.
        apply_orientation: Rotate the image as EXIF says. Given cameras describe the pixels as they
            are stored, so that images with cameras need False.

    Raises:
        InputError: The file cannot be read completely.
    """
    with open_image(path) as image:
        try:
            image.load()
        except DECODE_ERRORS as error:
            raise InputError(
                f"cannot read {path}: the file is damaged or cut short ({error}); "
                "copy it again from the camera or remove it"
            ) from error
        return _to_arrays(ImageOps.exif_transpose(image) if apply_orientation else image)


def read_mask(path: Path, inverted: bool = False) -> UInt8[np.ndarray, "h w"]:
    """Read a mask, 0 to 255: 0 where the image is black or transparent.

    Masks of labels 0 and 1 count as black and white.

    Args:
        path: Image file.
        inverted: Whether white is to become 0 instead.
    """
    colors, alpha = read_pixels(path, apply_orientation=False)
    grey = colors.max(-1)
    if grey.max(initial=0) == 1:
        grey = grey * np.uint8(255)
    kept = np.asarray(grey if alpha is None else masked(grey, alpha))
    return 255 - kept if inverted else kept


def masked(
    pixels: UInt8[np.ndarray, "h w *c"], mask: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w *c"]:
    """Multiply pixels by a mask, both 0 to 255, rounded to the nearest."""
    wide = mask if pixels.ndim == 2 else cv2.merge([mask] * pixels.shape[2])
    return cv2.multiply(pixels, wide, scale=1 / 255)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (width, height) in whole pixels, multiplied by a scale that is clamped to 1."""
    width, height = (max(round(side * min(scale, 1.0)), 1) for side in size)
    return width, height


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image at size (width, height), averaged over areas where it shrinks."""
    if image.shape[1::-1] == size:
        return image
    shrinks = size[0] <= image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def open_image(path: Path) -> Image.Image:
    """Open an image without decoding it; raise InputError if it is missing or not an image."""
    if path.suffix.lower() in (".heic", ".heif"):
        _register_heif(path)
    try:
        if path.stat().st_size == 0:
            raise InputError(f"cannot read {path}: the file is empty; copy it again or remove it")
        return Image.open(path)
    except FileNotFoundError as error:
        raise InputError(f"image not found: {path}; check the path") from error
    except PermissionError as error:
        raise InputError(
            f"cannot read {path}: permission denied; change the permissions of the file"
        ) from error
    except DECODE_ERRORS as error:
        raise InputError(
            f"cannot read {path}: expected an image file ({', '.join(EXTENSIONS)}), "
            "but its contents cannot be decoded as an image; replace or remove it"
        ) from error


def _register_heif(path: Path) -> None:
    try:
        import pi_heif
    except ImportError as error:
        raise MissingDependency(
            f"cannot read {path}: HEIC needs an extra package; pip install 'reconsplat[heic]'"
        ) from error
    pi_heif.register_heif_opener()


def _to_arrays(
    image: Image.Image,
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    if image.mode.startswith(("I", "F")):
        # 16-bit grey; Pillow would clip it to 8 bits in a conversion.
        values = np.asarray(image).astype(np.float32)
        peak = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1.0)
        grey = (255 * (values / peak).clip(0, 1)).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, -1), None
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    if not has_alpha:
        return pixels, None
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])
