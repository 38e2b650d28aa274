"""Reading picture files of every common kind into arrays."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from recon.errors import InputError, MissingDependency

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif")
# Cameras with more pixels exist, but a bomb of a picture must not take the machine down.
Image.MAX_IMAGE_PIXELS = 400_000_000
# What Pillow and its plugins raise on broken contents.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    Image.DecompressionBombError,
)


def is_image(path: Path) -> bool:
    """Whether the name is one of a picture that recon reads; hidden files are not."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as stored, from the header alone; InputError when unreadable."""
    with opened(path) as image:
        return image.size


def read_image(
    path: Path, apply_orientation: bool
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None]:
    """Colours and alpha (or None), float32 in [0, 1], display sRGB, alpha not multiplied in.

    The EXIF orientation is applied only on request: given cameras describe the pixels
    as they are stored. InputError when the file cannot be read whole.
    """
    with opened(path) as image:
        try:
            image.load()
        except DECODE_ERRORS as error:
            raise InputError(
                f"cannot read {path}: the file is damaged or cut short ({error}); "
                "copy it again from the camera or remove it"
            ) from error
        return _to_arrays(ImageOps.exif_transpose(image) if apply_orientation else image)


def read_mask(path: Path) -> Float[np.ndarray, "h w"]:
    """Mask, float32 in [0, 1]: 0 where the picture is black or transparent."""
    colors, alpha = read_image(path, apply_orientation=False)
    grey = colors.max(-1)
    return grey if alpha is None else grey * alpha


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(width, height) times a scale of at most 1, whole pixels."""
    width, height = (max(round(side * min(scale, 1.0)), 1) for side in size)
    return width, height


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture at size (width, height), averaged over areas where it shrinks."""
    if picture.shape[1::-1] == size:
        return picture
    shrinks = size[0] <= picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def opened(path: Path) -> Image.Image:
    """The picture, nothing of it decoded yet; InputError when it cannot be opened."""
    if path.suffix.lower() in (".heic", ".heif"):
        _register_heif(path)
    try:
        if path.stat().st_size == 0:
            raise InputError(f"cannot read {path}: the file is empty; copy it again or remove it")
        return Image.open(path)
    except FileNotFoundError as error:
        raise InputError(f"image not found: {path}; check the path") from error
    except PermissionError as error:
        raise InputError(f"cannot read {path}: no permission; change its rights") from error
    except DECODE_ERRORS as error:
        raise InputError(
            f"cannot read {path}: expected an image file ({', '.join(EXTENSIONS)}), "
            "but its contents are not one that can be decoded; replace or remove it"
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
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None]:
    if image.mode.startswith(("I", "F")):
        # 16-bit grey; Pillow would clip it to 8 bits in a conversion.
        values = np.asarray(image).astype(np.float32)
        peak = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1.0)
        return np.repeat((values / peak).clip(0, 1)[..., None], 3, -1), None
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB")).astype(np.float32) / 255
    return (pixels[..., :3], pixels[..., 3]) if has_alpha else (pixels, None)
