"""Image files: finding them in folders, and reading them into arrays."""

import importlib
import re
import struct
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image

from recon.capture.color import ADOBE_RGB, RgbSpace, space_in_header, srgb_image
from recon.capture.sample_values import eight_bit
from recon.errors import InputError
from recon.photo_extensions import IMAGE_EXTENSIONS_TEXT, is_image, is_raw
from recon.stand_ins import stand_in

# First bytes of HEIC files, which are often called .jpg, and of AVIF files, which need no plugin.
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
# First bytes of a photo in which its colour space is searched.
HEADER_BYTES = 1 << 16
# LibRaw's rotation of a photo -> EXIF orientation.
RAW_FLIPS = {3: 3, 5: 8, 6: 6}
# EXIF orientation -> what shows the stored pixels upright.
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
AVIF_HEADS = (b"ftypavif", b"ftypavis")
# Larger photos exist, but a decompression bomb must not exhaust the memory of the machine.
MAX_PIXELS = 400_000_000
# Exceptions of OpenCV, Pillow and its plugins for damaged files.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
    cv2.error,
    Image.DecompressionBombError,
)
# Those of them that mean a mistake of a program where its own code raises them.
BUG_ERRORS = (LookupError, TypeError, AttributeError)
DAMAGED = "the file is damaged or cut short; copy it again from the camera or remove it"


class UnreadablePhoto(InputError):
    """The file of a photo is missing, damaged, or of a kind that cannot be read here."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.reason = reason


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key that puts photo 2 before photo 10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in natural order; empty if there is no such folder."""
    return sorted(filter(is_image, folder.glob("*")), key=lambda path: natural_key(path.name))


def image_size(path: Path) -> tuple[int, int]:
    """Read (width, height) as stored from the header; InputError if the file is unreadable."""
    if is_raw(path):
        return raw_size(path)
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
    with open_image(path) as image, decoding(path):
        # Before the pixels, after which the file is closed.
        declared = declared_space(path, image)
        image = eight_bit(path, image).image
        image.load()
        upright = _upright(image) if apply_orientation else image
        return _to_arrays(upright, declared)


def write_pixels(
    path: Path, pixels: UInt8[np.ndarray, "h w *c"], parameters: Sequence[int] = ()
) -> None:
    """Write an image (BGR or grey) in the format of the extension.

    Args:
        path: Image file.
        pixels: Its pixels.
        parameters: OpenCV's settings of the encoder.
    """
    # Not by imwrite, which ignores a full disk.
    path.write_bytes(cv2.imencode(path.suffix, pixels, parameters)[1].tobytes())


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


@contextmanager
def decoding(path: Path, reason: str = DAMAGED) -> Iterator[None]:
    """Raise UnreadablePhoto for an error of the libraries that decode an image.

    Too little memory is no fault of the file, and a mistake in recon's own code is none either:
    these errors are raised as they are.

    Args:
        path: Image file.
        reason: What is wrong with it, and what to do.
    """
    try:
        yield
    except DECODE_ERRORS as error:
        if isinstance(error, BUG_ERRORS) and _is_own(error):
            raise
        raise UnreadablePhoto(path, reason) from error


def _is_own(error: BaseException) -> bool:
    """Return whether code of recon raised an error, and no library that it calls."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__", "").partition(".")[0] == "recon"


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image without decoding it, except for RAW files, which are developed.

    Raises:
        UnreadablePhoto: It is missing or not an image, or needs a package that is not installed.
    """
    reason = (
        f"expected an image file ({IMAGE_EXTENSIONS_TEXT}), but its contents cannot be decoded as "
        "an image; replace or remove it"
    )
    with _quiet_pillow.entered():
        with decoding(path, reason):
            image = _opened(path)
        with image:
            yield image


def _opened(path: Path) -> Image.Image:
    _check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if not head:
            raise UnreadablePhoto(path, "the file is empty; copy it again or remove it")
        if problem := stand_in(head):
            raise UnreadablePhoto(path, problem)
        if is_raw(path):
            return developed(path)
        _register_plugins(path, head)
        with _quiet_pillow.limit(MAX_PIXELS):
            return Image.open(path)
    except FileNotFoundError as error:
        raise UnreadablePhoto(path, "image not found; check the path") from error
    except PermissionError as error:
        reason = "permission denied; change the permissions of the file"
        raise UnreadablePhoto(path, reason) from error


class _QuietPillow:
    """Pillow's settings for the whole process, changed only while photos are open.

    Photos are opened by several threads, so that the first one sets them and the last one resets.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._filter: Any = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Ignore its warnings of large files and damaged metadata, which are read nevertheless."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                before = list(warnings.filters)
                warnings.filterwarnings("ignore", module="PIL")
                self._filter = None if warnings.filters[0] in before else warnings.filters[0]
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                # Not by warnings.catch_warnings, which would undo what other threads set.
                if self._count == 0 and self._filter in warnings.filters:
                    warnings.filters.remove(self._filter)  # type: ignore[attr-defined]

    @contextmanager
    def limit(self, pixels: int) -> Iterator[None]:
        """Set the number of pixels from which Pillow refuses to open a file."""
        with self._lock:
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
            try:
                yield
            finally:
                Image.MAX_IMAGE_PIXELS = before


_quiet_pillow = _QuietPillow()


def _check_regular(path: Path) -> None:
    """Raise UnreadablePhoto for a pipe or a device, which would be waited for without end."""
    if path.exists() and not path.is_file():
        raise UnreadablePhoto(path, "it is no regular file; remove it")


def _register_plugins(path: Path, head: bytes) -> None:
    """Register the optional reader that a file needs by its first bytes or its extension."""
    suffix = path.suffix.lower()
    is_jxl = head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL "))
    is_heif = head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS
    if is_heif or (suffix in (".heic", ".heif", ".hif") and head[4:12] not in AVIF_HEADS):
        try:
            import pi_heif
        except ImportError as error:
            raise _missing(path, "HEIC", "heic") from error
        pi_heif.register_heif_opener()
    elif is_jxl:
        try:
            importlib.import_module("pillow_jxl")
        except ImportError as error:
            raise _missing(path, "JPEG XL", "jxl") from error


def _missing(path: Path, kind: str, extra: str) -> UnreadablePhoto:
    install = f"pip install 'reconsplat[{extra}]'"
    return UnreadablePhoto(path, f"{kind} needs an extra package; {install}")


def _to_arrays(
    image: Image.Image, declared: RgbSpace | None
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    colors = np.array(srgb_image(image, declared))
    if not image.has_transparency_data:
        return colors, None
    return colors, np.array(image.convert("RGBA").getchannel("A"))


def declared_space(path: Path, image: Image.Image) -> RgbSpace | None:
    """Return the colour space that a photo declares without an ICC profile; None for sRGB.

    That is by numbers in its header, or Adobe RGB in EXIF (DCF 2.0, or ColorSpace 2).
    """
    if image.format in ("AVIF", "HEIF", "PNG"):
        with path.open("rb") as file:
            space = space_in_header(file.read(HEADER_BYTES))
        if space is not None:
            return space
    exif = exif_of(image)
    color_space = exif_value(exif, ExifTags.Base.ColorSpace, ExifTags.IFD.Exif)
    interoperability = exif_value(exif, ExifTags.Interop.InteropIndex, ExifTags.IFD.Interop)
    is_adobe = color_space == 2 or str(interoperability).strip("\0 ") == "R03"
    return ADOBE_RGB if is_adobe else None


def exif_of(image: Image.Image) -> Image.Exif:
    """Return the EXIF data of an image; empty if they are too damaged to be read."""
    if image.format == "PNG" and "exif" not in image.info:
        # They may be behind the pixels, whose damage must not pass for that of EXIF data.
        image.load()
    try:
        return image.getexif()
    except DECODE_ERRORS:
        return Image.Exif()


def exif_value(exif: Image.Exif, tag: int, directory: int | None = None) -> Any:
    """Return a value of EXIF data, or of one of its directories; None if missing or damaged."""
    try:
        return (exif if directory is None else exif.get_ifd(directory)).get(tag)
    except DECODE_ERRORS:
        return None


def orientation_of(exif: Image.Exif, image: Image.Image | None = None) -> int:
    """Return the orientation, 1 to 8; 1 (as stored) if EXIF does not give a valid one.

    That of a TIFF is 1: Pillow gives its pixels as they are to be shown.
    """
    if image is not None and image.format == "TIFF":
        return 1
    value = exif_value(exif, ExifTags.Base.Orientation)
    return next((known for known in range(1, 9) if value == known), 1)


def _upright(image: Image.Image) -> Image.Image:
    """Rotate and mirror an image as EXIF says."""
    # ImageOps.exif_transpose writes EXIF anew, which fails where other values are damaged.
    method = TRANSPOSITIONS.get(orientation_of(exif_of(image), image))
    return image if method is None else image.transpose(method)


def raw_size(path: Path) -> tuple[int, int]:
    """Read (width, height) of a RAW photo as stored."""
    with _opened_raw(path) as raw:
        return raw.sizes.width, raw.sizes.height


def developed(path: Path, half: bool = False) -> Image.Image:
    """Develop a RAW photo to sRGB, as it is stored, at full or half size.

    White balance is that of the camera. The exposure is as taken and not adjusted to each photo, so
    that photos of one scene agree.
    """
    with _opened_raw(path) as raw:
        import rawpy

        flip = raw.sizes.flip
        pixels = raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            output_color=rawpy.ColorSpace.sRGB,
            gamma=(2.4, 12.92),
            user_flip=0,
            half_size=half,
        )
        image = Image.fromarray(pixels)
        image.getexif()[ExifTags.Base.Orientation] = RAW_FLIPS.get(flip, 1)
        return image


@contextmanager
def _opened_raw(path: Path) -> Iterator[Any]:
    try:
        import rawpy
    except ImportError as error:
        raise _missing(path, "RAW", "raw") from error
    _check_regular(path)
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except rawpy.LibRawError as error:
        reason = "LibRaw cannot decode it; copy it again from the camera, or convert it to .tif"
        raise UnreadablePhoto(path, reason) from error
