"""Writes photos of many kinds, with values known from their formats' own descriptions."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

# Linear sRGB values of four quarters, and the sRGB codes they stand for.
QUARTERS = ((0.6, 0.05, 0.02), (0.05, 0.5, 0.1), (0.03, 0.05, 0.6), (0.2, 0.2, 0.2))
# XYZ (D50) of the primaries of Display P3 and Adobe RGB, as in their ICC profiles.
P3_XYZ = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_XYZ = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
D50 = (0.9642, 1.0, 0.8249)


def srgb_codes(linear: np.ndarray) -> np.ndarray:
    """Return sRGB codes in [0, 255] of linear values."""
    light = np.clip(linear, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def quarters(size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """Return linear values [h w 3] of four flat quarters."""
    width, height = size
    image = np.zeros((height, width, 3))
    for i, color in enumerate(QUARTERS):
        rows = slice(0, height // 2) if i < 2 else slice(height // 2, None)
        columns = slice(0, width // 2) if i % 2 == 0 else slice(width // 2, None)
        image[rows, columns] = color
    return image


def quarter_means(image: np.ndarray) -> np.ndarray:
    """Return the mean colours [4 3] of the middles of the quarters."""
    h, w = image.shape[0] // 8, image.shape[1] // 8
    boxes = [(h, w), (h, 5 * w), (5 * h, w), (5 * h, 5 * w)]
    return np.stack([image[y : y + 2 * h, x : x + 2 * w].mean((0, 1)) for y, x in boxes])


def icc_profile(gamma: float, primaries: tuple[tuple[float, ...], ...], name: str) -> bytes:
    """Return an ICC profile (version 2) of an RGB space with a power curve."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    text = name.encode() + b"\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": xyz(D50)}
    for letter, values in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags |= {letter + b"XYZ": xyz(values), letter + b"TRC": curve}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        data += bytes(-len(data) % 4)
        table += key + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += b"".join(map(fixed, D50)) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def write_in_profile(path: Path, profile: bytes, to_linear_d50: np.ndarray, gamma: float) -> None:
    """Write the quarters as codes of an RGB space with a power curve, with or without profile.

    Args:
        path: Image file to write.
        profile: ICC profile to embed; empty for none.
        to_linear_d50: Linear values of the space from XYZ (D50).
        gamma: Exponent of the curve.
    """
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).profile
    xyz = [srgb.red_colorant[0], srgb.green_colorant[0], srgb.blue_colorant[0]]
    linear = np.clip(quarters() @ np.array(xyz) @ to_linear_d50, 0, 1)
    codes = (255 * linear ** (1 / gamma)).round().astype(np.uint8)
    options = {"icc_profile": profile} if profile else {}
    Image.fromarray(codes).save(path, quality=100, subsampling=0, **options)


def write_dng(path: Path, linear: np.ndarray, orientation: int = 1) -> None:
    """Write linear sRGB values [h w 3] as a raw photo (DNG 1.4): a Bayer pattern of 16 bits."""
    h, w, _ = linear.shape
    bayer = np.zeros((h, w))
    for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        bayer[y::2, x::2] = linear[y::2, x::2, channel]
    pixels = (bayer * 65535).round().astype("<u2").tobytes()
    camera_from_xyz = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)
    tags = {
        254: ("I", [0]), 256: ("I", [w]), 257: ("I", [h]), 258: ("H", [16]), 259: ("H", [1]),
        262: ("H", [32803]), 271: ("s", b"Test\0"), 272: ("s", b"Cam\0"), 273: ("I", None),
        274: ("H", [orientation]), 277: ("H", [1]), 278: ("I", [h]), 279: ("I", [len(pixels)]),
        33421: ("H", [2, 2]), 33422: ("B", [0, 1, 1, 2]), 50706: ("B", [1, 4, 0, 0]),
        50708: ("s", b"Test Cam\0"), 50714: ("I", [0]), 50717: ("I", [65535]),
        50721: ("i", [n for v in camera_from_xyz for n in (round(v * 10000), 10000)]),
        50728: ("J", [1, 1] * 3), 50778: ("H", [21]),
    }  # fmt: skip
    kinds = {"B": 1, "s": 2, "H": 3, "I": 4, "J": 5, "i": 10}
    offset = 8 + 2 + 12 * len(tags) + 4
    extra, fields = b"", []
    for tag, (kind, values) in sorted(tags.items()):
        if values is None:
            fields.append((tag, kinds[kind], 1, None))
            continue
        letter = "I" if kind == "J" else kind
        data = values if kind == "s" else struct.pack(f"<{len(values)}{letter}", *values)
        count = len(values) // 2 if kind in "iJ" else len(values)
        if len(data) > 4:
            position = struct.pack("<I", offset + len(extra))
            extra += data + bytes(len(data) % 2)
            data = position
        fields.append((tag, kinds[kind], count, data.ljust(4, b"\0")))
    start = struct.pack("<I", offset + len(extra))
    table = b"".join(
        struct.pack("<HHI", tag, kind, count) + (start if data is None else data)
        for tag, kind, count, data in fields
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    path.write_bytes(head + table + bytes(4) + extra + pixels)


def textured(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a photo that differs from those of other seeds."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
