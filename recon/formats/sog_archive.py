"""The files of a SOG, in a zip or a folder: textures and their description; none is trusted."""

import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recon.errors import InputError, listed

META, MAX_META_BYTES = "meta.json", 1 << 22
# What opening a file raises that is no zip archive, or one of a kind or with names that zipfile
# does not read.
NOT_A_ZIP = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)
# Largest side of a WebP, and largest number of pixels per byte: lossless noise has less than one, a
# constant image many thousands.
MAX_SIDE = 16383
MAX_PIXELS_PER_BYTE = 4096
MAX_COUNT = MAX_SIDE * MAX_SIDE


def texture_size(count: int) -> tuple[int, int]:
    """Return (width, height) of a nearly square texture for `count` texels, multiples of 4."""
    width = max(math.ceil(math.sqrt(count) / 4) * 4, 4)
    return width, max(math.ceil(count / width / 4) * 4, 4)


def webp(values: np.ndarray, size: tuple[int, int] | None = None) -> bytes:
    """Encode rows of 3 or 4 values from 0 to 255 as a lossless image, one row per pixel."""
    values = values.reshape(-1, values.shape[-1])
    width, height = size or texture_size(len(values))
    pixels = np.zeros((height * width, 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(values), : values.shape[1]] = values
    file = io.BytesIO()
    # `exact` keeps the colours of pixels with alpha 0, which are data.
    image = Image.fromarray(pixels.reshape(height, width, 4))
    image.save(file, "WEBP", lossless=True, exact=True, quality=100, method=4)
    return file.getvalue()


def is_sog_meta(path: Path) -> bool:
    """Return whether a file is the meta.json of an unbundled SOG."""
    if path.name != META or not path.is_file() or path.stat().st_size > MAX_META_BYTES:
        return False
    try:
        meta = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):
        return False
    return isinstance(meta, dict) and {"means", "scales", "quats", "sh0"} <= meta.keys()


class Archive:
    """An open .sog or folder with a meta.json, used as a context.

    Every defect of the files raises InputError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.zip: zipfile.ZipFile | None = None
        self.folder = ""

    def __enter__(self) -> "Archive":
        if self.path.name == META:
            return self
        try:
            self.zip = zipfile.ZipFile(self.path)
        except NOT_A_ZIP as error:
            raise InputError(f"{self.path} is not a SOG file: expected a zip ({error})") from error
        names = [name for name in self.zip.namelist() if name.rpartition("/")[2] == META]
        folders = [name.removesuffix(META) for name in names]
        if len(folders) > 1 and "" not in folders:
            raise InputError(
                f"{self.path} holds {len(folders)} scenes, in {listed(folders)}; unpack it and "
                "pass one of these folders"
            )
        self.folder = "" if "" in folders else "".join(folders)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.zip is not None:
            self.zip.close()

    def damaged(self, problem: str) -> InputError:
        """Return the error to raise."""
        return InputError(f"{self.path} is damaged: {problem}")

    def read(self, name: str, limit: int) -> bytes:
        """Read a file: a member of the zip, whose name is never used as a path, or one beside."""
        if self.zip is None:
            return self._read_beside(name, limit)
        try:
            info = self.zip.getinfo(self.folder + name)
            if info.file_size > limit:
                raise self.damaged(f"{name} unpacks to {info.file_size} bytes")
            with self.zip.open(info) as file:
                data = file.read(limit + 1)
        except KeyError as error:
            raise self.damaged(f"it has no {name}") from error
        except (
            zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError,
            NotImplementedError,
        ) as error:  # fmt: skip
            raise self.damaged(f"{name}: {error}") from error
        if len(data) > limit:
            raise self.damaged(f"{name} unpacks to more bytes than it declares")
        return data

    def _read_beside(self, name: str, limit: int) -> bytes:
        path = self.path.parent / name
        if Path(name).name != name or not path.is_file():
            raise self.damaged(f"there is no {name} in its folder")
        if path.stat().st_size > limit:
            raise self.damaged(f"{name} has {path.stat().st_size} bytes")
        try:
            return path.read_bytes()
        except OSError as error:
            raise self.damaged(f"{name}: {error}") from error

    def meta(self) -> dict[str, Any]:
        """Return the validated meta.json; that of version 1, which had no version, gets a count."""
        try:
            meta = json.loads(self.read(META, MAX_META_BYTES))
        except (ValueError, RecursionError) as error:
            raise self.damaged(f"meta.json: {error}") from error
        if not isinstance(meta, dict) or meta.get("version", 1) not in (1, 2):
            found = meta.get("version") if isinstance(meta, dict) else type(meta).__name__
            raise InputError(f"{self.path}: expected SOG version 1 or 2, found {found}")
        if meta.get("version", 1) == 1:
            meta["version"] = 1
            shape = meta["means"].get("shape") if isinstance(meta.get("means"), dict) else None
            meta["count"] = shape[0] if isinstance(shape, list) and shape else None
        self.integer(meta, "count", 1, MAX_COUNT)
        for attribute in ("means", "scales", "quats", "sh0"):
            self._files(meta, attribute)
        return meta

    def integer(self, entry: dict[str, Any], key: str, low: int, high: int) -> int:
        """Return an integer of meta.json; raise InputError unless it is in [low, high]."""
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.damaged(f"{key} must be from {low} to {high}, found {value!r}")
        return value

    def numbers(self, meta: dict[str, Any], attribute: str, key: str, count: int) -> list[float]:
        """Return finite numbers of meta.json."""
        values = meta[attribute].get(key)
        if not isinstance(values, list) or len(values) != count:
            raise self.damaged(f"{attribute} needs {count} {key}")
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise self.damaged(f"{attribute} has {key} that are not finite numbers")
        return [float(value) for value in values]

    def _files(self, meta: dict[str, Any], attribute: str) -> list[str]:
        entry = meta.get(attribute)
        names = entry.get("files") if isinstance(entry, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.damaged(f"meta.json names no files of {attribute}")
        return names

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file."""
        if self.zip is not None:
            members = [m for m in self.zip.infolist() if m.filename.startswith(self.folder)]
            return {m.filename.removeprefix(self.folder): m.compress_size for m in members}
        files = [self.path, *sorted(self.path.parent.glob("*.webp"))]
        return {file.name: file.stat().st_size for file in files}

    def texture_shape(self, meta: dict[str, Any], attribute: str, index: int) -> tuple[int, int]:
        """Return (width, height) of a texture, which `texels` checks."""
        names = self._files(meta, attribute)
        if index >= len(names):
            raise self.damaged(f"meta.json names {len(names)} files of {attribute}")
        try:
            with Image.open(io.BytesIO(self.read(names[index], 4 * MAX_COUNT))) as image:
                return image.size
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise self.damaged(f"{names[index]}: {error}") from error

    def texels(
        self, meta: dict[str, Any], attribute: str, index: int, count: int, width: int | None = None
    ) -> np.ndarray:
        """Return the first `count` texels of a texture [count 4]."""
        names = self._files(meta, attribute)
        if index >= len(names):
            raise self.damaged(f"meta.json names {len(names)} files of {attribute}")
        name = names[index]
        data = self.read(name, 4 * MAX_COUNT)
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                pixels = image.width * image.height
                if pixels < count or width not in (None, image.width):
                    raise self.damaged(f"{name} of {image.width}x{image.height} is too small")
                if pixels > MAX_PIXELS_PER_BYTE * len(data):
                    raise self.damaged(f"{name}: {pixels} pixels in {len(data)} bytes")
                values = np.asarray(image.convert("RGBA"))
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise self.damaged(f"{name}: {error}") from error
        return values.reshape(-1, 4)[:count]

    def scaled(
        self, meta: dict[str, Any], attribute: str, steps: np.ndarray, bits: int = 8
    ) -> np.ndarray:
        """Decode values between the bounds (mins, maxs) of an attribute [n d], float64.

        Bounds are one for each column, or one number for all.
        """
        bounds = []
        for key in ("mins", "maxs"):
            entry = meta[attribute]
            if not isinstance(entry.get(key), list):
                entry[key] = [entry.get(key)] * steps.shape[1]
            bounds.append(np.array(self.numbers(meta, attribute, key, steps.shape[1])))
        low, high = bounds
        return np.asarray(low + steps / float((1 << bits) - 1) * (high - low))

    def coded(self, meta: dict[str, Any], attribute: str, steps: np.ndarray) -> np.ndarray:
        """Decode values by the codebook of an attribute, float32."""
        return np.asarray(
            np.array(self.numbers(meta, attribute, "codebook", 256), np.float32)[steps]
        )
