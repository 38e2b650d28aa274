"""The zip of a SOG: pictures of numbers, none of which can be trusted."""

import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recon.errors import InputError

MAX_META_BYTES = 1 << 22
# A side of a WebP; and how many pixels a byte of it may stand for: lossless noise has less than
# one, a plain picture many thousands.
MAX_SIDE = 16383
MAX_PIXELS_PER_BYTE = 4096
MAX_COUNT = MAX_SIDE * MAX_SIDE


def picture_size(count: int) -> tuple[int, int]:
    """(width, height) for so many numbers: nearly square, multiples of 4."""
    width = max(math.ceil(math.sqrt(count) / 4) * 4, 4)
    return width, max(math.ceil(count / width / 4) * 4, 4)


def webp(values: np.ndarray, size: tuple[int, int] | None = None) -> bytes:
    """A lossless picture of rows of 3 (or 4) numbers from 0 to 255, one row a pixel."""
    values = values.reshape(-1, values.shape[-1])
    width, height = size or picture_size(len(values))
    pixels = np.zeros((height * width, 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(values), : values.shape[1]] = values
    file = io.BytesIO()
    # Colours under zero alpha are numbers, too.
    image = Image.fromarray(pixels.reshape(height, width, 4))
    image.save(file, "WEBP", lossless=True, exact=True, quality=100, method=4)
    return file.getvalue()


class Archive:
    """An open .sog; everything wrong with it is a InputError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "Archive":
        try:
            self.zip = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{self.path} is no SOG: expected a zip ({error})") from error
        return self

    def __exit__(self, *exception: object) -> None:
        self.zip.close()

    def broken(self, what: str) -> InputError:
        """The error to raise."""
        return InputError(f"{self.path} is damaged: {what}")

    def read(self, name: str, limit: int) -> bytes:
        """A member, unpacked in memory: its name is never a path on this machine."""
        try:
            info = self.zip.getinfo(name)
            if info.file_size > limit:
                raise self.broken(f"{name} unpacks to {info.file_size} bytes")
            with self.zip.open(info) as file:
                data = file.read(limit + 1)
        except KeyError as error:
            raise self.broken(f"no {name} in it") from error
        except (
            zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError,
            NotImplementedError,
        ) as error:  # fmt: skip
            raise self.broken(f"{name}: {error}") from error
        if len(data) > limit:
            raise self.broken(f"{name} unpacks to more than it says")
        return data

    def meta(self) -> dict[str, Any]:
        """The checked description."""
        try:
            meta = json.loads(self.read("meta.json", MAX_META_BYTES))
        except (ValueError, RecursionError) as error:
            raise self.broken(f"meta.json: {error}") from error
        if not isinstance(meta, dict) or meta.get("version") != 2:
            found = meta.get("version") if isinstance(meta, dict) else type(meta).__name__
            raise InputError(f"{self.path}: expected SOG version 2, found {found}")
        self.whole(meta, "count", 1, MAX_COUNT)
        for part in ("means", "scales", "quats", "sh0"):
            self._files(meta, part)
        return meta

    def whole(self, entry: dict[str, Any], key: str, low: int, high: int) -> int:
        """A whole number of the description."""
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.broken(f"{key} must be from {low} to {high}, found {value!r}")
        return value

    def numbers(self, meta: dict[str, Any], part: str, key: str, count: int) -> list[float]:
        """Finite numbers of the description."""
        values = meta[part].get(key)
        if not isinstance(values, list) or len(values) != count:
            raise self.broken(f"{part} needs {count} {key}")
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise self.broken(f"{part} has {key} that are no finite numbers")
        return [float(value) for value in values]

    def _files(self, meta: dict[str, Any], part: str) -> list[str]:
        entry = meta.get(part)
        names = entry.get("files") if isinstance(entry, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.broken(f"meta.json names no files of {part}")
        return names

    def texels(
        self, meta: dict[str, Any], part: str, number: int, count: int, width: int | None = None
    ) -> np.ndarray:
        """The first `count` pixels of a picture, [count, 4]."""
        names = self._files(meta, part)
        if number >= len(names):
            raise self.broken(f"meta.json names {len(names)} files of {part}")
        name = names[number]
        data = self.read(name, 4 * MAX_COUNT)
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                pixels = image.width * image.height
                if pixels < count or width not in (None, image.width):
                    raise self.broken(f"{name} of {image.width}x{image.height} is too small")
                if pixels > MAX_PIXELS_PER_BYTE * len(data):
                    raise self.broken(f"{name}: {pixels} pixels in {len(data)} bytes")
                values = np.asarray(image.convert("RGBA"))
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise self.broken(f"{name}: {error}") from error
        return values.reshape(-1, 4)[:count]

    def coded(self, meta: dict[str, Any], part: str, steps: np.ndarray) -> np.ndarray:
        """The numbers of a codebook, float32."""
        return np.array(self.numbers(meta, part, "codebook", 256), np.float32)[steps]
