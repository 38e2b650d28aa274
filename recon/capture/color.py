"""Colours of photos and videos in other colour spaces, converted to sRGB.

Photos have ICC profiles (Display P3, Adobe RGB, CMYK, grey); videos of phones and cameras may be
HLG or PQ with the primaries of BT.2020 (ITU-R BT.2100-2).
"""

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageCms

from render.srgb import from_linear, to_linear

# Linear sRGB from other linear RGB, both with white D65.
SRGB_FROM_BT2020 = (
    (1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187),
)  # fmt: skip
SRGB_FROM_P3 = ((1.2249, -0.2249, 0.0), (-0.0421, 1.0421, 0.0), (-0.0196, -0.0786, 1.0983))
SRGB_FROM_ADOBE = ((1.3984, -0.3984, 0.0), (0.0, 1.0, 0.0), (0.0, -0.0429, 1.0429))
ADOBE_GAMMA = 563 / 256
# Diffuse white of HDR video (ITU-R BT.2408): luminance of PQ (cd/m2), signal of HLG.
PQ_WHITE, HLG_WHITE = 203.0, 0.75
# Linear values above this are compressed towards 1, which only highlights reach: white becomes
# 0.96 (of 255: 251), and the brightest values 1.
KNEE = 0.9
# Range of linear values, relative to white, that the table of sRGB codes covers.
MAX_LINEAR, TABLE_SIZE = 4.0, 1 << 16
# Codes by which a profile may differ from sRGB and still count as sRGB.
MAX_SRGB_DIFFERENCE = 2
# Modes of images that a profile of each colour space describes.
PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


@dataclass(frozen=True)
class RgbSpace:
    """An RGB colour space."""

    name: str
    linear: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]
    """Linear values of codes in [0, 1]; 1 is diffuse white."""
    matrix: tuple[tuple[float, ...], ...]
    """Linear sRGB from linear values."""
    knee: float = 1.0
    """Linear value from which highlights are compressed."""


def _hlg_linear(codes: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return scene light relative to diffuse white (ITU-R BT.2100-2, table 5, inverse OETF)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073

    def inverse(signal: np.ndarray) -> np.ndarray:
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)

    return np.asarray(inverse(codes) / inverse(np.array(HLG_WHITE)))


def _pq_linear(codes: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return display light relative to diffuse white (ITU-R BT.2100-2, table 4, EOTF)."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = codes ** (1 / m2)
    light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return np.asarray(10_000 / PQ_WHITE * light)


HLG = RgbSpace("HLG (BT.2020)", _hlg_linear, SRGB_FROM_BT2020, KNEE)
PQ = RgbSpace("PQ (BT.2020)", _pq_linear, SRGB_FROM_BT2020, KNEE)
SDR_BT2020 = RgbSpace("BT.2020", to_linear, SRGB_FROM_BT2020)
SDR_P3 = RgbSpace("Display P3", to_linear, SRGB_FROM_P3)
ADOBE_RGB = RgbSpace("Adobe RGB", lambda codes: codes**ADOBE_GAMMA, SRGB_FROM_ADOBE)


def srgb_from(space: RgbSpace, codes: Shaped[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Convert codes (uint8 or uint16) of a colour space to sRGB codes.

    Highlights above diffuse white are compressed smoothly, colours outside of sRGB are clipped.
    """
    matrix = np.array(space.matrix, np.float32)
    linear = _linear_table(space, codes.dtype.itemsize)[codes]
    converted = cv2.transform(linear, matrix)
    index = np.clip(converted * np.float32((TABLE_SIZE - 1) / MAX_LINEAR), 0, TABLE_SIZE - 1)
    return np.asarray(_srgb_table(space.knee)[index.astype(np.uint16)])


@functools.lru_cache(maxsize=8)
def _linear_table(space: RgbSpace, item_bytes: int) -> Float[np.ndarray, " n"]:
    return space.linear(np.linspace(0, 1, 1 << (8 * item_bytes))).astype(np.float32)


@functools.lru_cache(maxsize=2)
def _srgb_table(knee: float) -> UInt8[np.ndarray, " n"]:
    """Return the sRGB codes of linear values from 0 to MAX_LINEAR (IEC 61966-2-1)."""
    light = np.linspace(0, MAX_LINEAR, TABLE_SIZE)
    if knee < 1:
        above = 1 - np.exp(-np.maximum(light - knee, 0) / (1 - knee))
        light = np.where(light > knee, knee + (1 - knee) * above, light)
    light = light.clip(0, 1)
    return np.asarray((255 * from_linear(light)).round().astype(np.uint8))


@dataclass(frozen=True)
class _Profile:
    """What an ICC profile means for images of one mode."""

    name: str
    transform: ImageCms.ImageCmsTransform | None
    """To sRGB; None if the colours are sRGB already, or the profile is of no use."""
    broken: bool = False


# Colour spaces by the numbers of ITU-T H.273 for transfer characteristics, and of primaries.
BY_TRANSFER: dict[int, RgbSpace] = {16: PQ, 18: HLG}
BY_PRIMARIES: dict[int, RgbSpace] = {9: SDR_BT2020, 12: SDR_P3}


def space_by_codes(primaries: int, transfer: int) -> RgbSpace | None:
    """Return the colour space with these numbers of ITU-T H.273; None for sRGB and unknown ones."""
    return BY_TRANSFER.get(transfer, BY_PRIMARIES.get(primaries))


def space_in_header(head: bytes) -> RgbSpace | None:
    """Return the colour space that the first bytes of a photo declare by numbers; None for sRGB.

    They are in a box `colr` of AVIF and HEIC (ISO 23001-8) and in the chunk `cICP` of PNG.
    """
    if (at := head.find(b"colrnclx")) >= 0 and len(head) >= at + 12:
        numbers = head[at + 8 : at + 12]
        return space_by_codes(
            int.from_bytes(numbers[:2], "big"), int.from_bytes(numbers[2:], "big")
        )
    if head.startswith(b"\x89PNG") and 0 <= (at := head.find(b"cICP")) <= len(head) - 6:
        return space_by_codes(head[at + 4], head[at + 5])
    return None


def conversion_of(image: Image.Image, declared: RgbSpace | None) -> str:
    """Return what `srgb_image` does with the colours of an image; empty if nothing.

    Args:
        image: The image, which need not be loaded.
        declared: Colour space that other metadata declare, in the absence of a profile.
    """
    profile = _profile_of(image)
    if profile is not None and profile.broken:
        return f"colours are taken as sRGB, since there is {profile.name}"
    if profile is not None:
        name = "" if profile.transform is None else profile.name
    elif image.mode == "CMYK":
        name = "CMYK without a colour profile, roughly,"
    else:
        name = declared.name if declared else ""
    return f"colours are converted from {name} to sRGB" if name else ""


def srgb_image(image: Image.Image, declared: RgbSpace | None) -> Image.Image:
    """Return the colours of an image in sRGB, in mode RGB; transparency is dropped.

    Args:
        image: The image.
        declared: Colour space that other metadata declare, in the absence of a profile.
    """
    profile = _profile_of(image)
    if profile is not None and profile.transform is not None:
        flat = image.convert(_flat_mode(image))
        converted = ImageCms.applyTransform(flat, profile.transform)
        assert converted is not None
        return converted
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
        assert converted is not None
        return converted
    colors = image.convert("RGB")
    if profile is None and declared is not None:
        return Image.fromarray(srgb_from(declared, np.asarray(colors)))
    return colors


def _flat_mode(image: Image.Image) -> str:
    """Return the mode without alpha and palette."""
    if image.mode in ("1", "L", "LA", "La"):
        return "L"
    return "CMYK" if image.mode == "CMYK" else "RGB"


def _profile_of(image: Image.Image) -> _Profile | None:
    """Return the meaning of an image's ICC profile; None if it has none."""
    data = image.info.get("icc_profile")
    if not isinstance(data, bytes) or not data or image.mode in ("LAB", "HSV"):
        return None
    return _read_profile(data, _flat_mode(image))


@functools.lru_cache(maxsize=64)
def _read_profile(data: bytes, mode: str) -> _Profile | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(data))
        described = ImageCms.getProfileDescription(source).strip()
        if PROFILE_MODES.get(source.profile.xcolor_space) != mode:
            return _Profile(f"an ICC profile that is not for {mode} images", None, broken=True)
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except PROFILE_ERRORS:
        return _Profile("an ICC profile that cannot be read", None, broken=True)
    return _Profile(described or "an ICC profile", None if _is_srgb(transform, mode) else transform)


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform to sRGB leaves all colours as they are."""
    if mode == "CMYK":
        return False
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    before = Image.fromarray(grid if mode == "RGB" else grid[..., 0])
    after = ImageCms.applyTransform(before, transform)
    change = np.abs(np.asarray(after, np.int16) - np.asarray(before.convert("RGB"), np.int16))
    return int(change.max()) <= MAX_SRGB_DIFFERENCE
