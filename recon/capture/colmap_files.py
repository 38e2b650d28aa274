"""Files of a COLMAP model, binary or text.

Formats: https://colmap.github.io/format.html. Points, their colours and tracks are read as far as
views need them; files of rigs and frames repeat what the images say.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from recon.capture.text import read_text
from recon.errors import InputError, counted, listed, warn
from recon.stand_ins import check_stand_in

# Name and number of parameters of each camera model by its ID (src/colmap/sensor/models.h).
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}
NUM_PARAMETERS = dict(MODELS.values())
# An image has this many numbers before its name, the first one and the last one whole.
HEADER_NUMBERS = 9
MAX_NAME, MAX_WHOLE = 4096, 1e9
# Relative difference of poses that counts as rounding.
POSE_TOLERANCE = 1e-3
NOT_A_NUMBER = re.compile(r"[-+]?(?:nan\(\w*\)|1\.#\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class ModelCamera:
    """Intrinsics as a COLMAP model gives them."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ModelImage:
    """An image with a pose."""

    name: str
    camera: int
    """ID of its camera."""
    quat: Float[np.ndarray, "4"]
    """Rotation of camera from world, wxyz."""
    translation: Float[np.ndarray, "3"]
    point_ids: Int[np.ndarray, " k"]
    """IDs of the points it sees."""


@dataclass(frozen=True)
class Model:
    """Content of a COLMAP model."""

    cameras: dict[int, ModelCamera]
    images: list[ModelImage]
    point_ids: Int[np.ndarray, " m"]
    """IDs of the points in increasing order."""
    points: Float[np.ndarray, "m 3"]
    """Their positions, world frame."""


def model_files(folder: Path) -> dict[str, Path]:
    """Return the files of the model in a folder by "cameras", "images" and "points3d".

    All are binary or all are text; upper and lower case do not matter. Empty without a model.
    """
    try:
        names = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError:
        return {}
    return _files_of(names, ".bin") or _files_of(names, ".txt")


def _files_of(names: dict[str, Path], extension: str) -> dict[str, Path]:
    found = {
        kind: names[kind + extension]
        for kind in ("cameras", "images", "points3d")
        if kind + extension in names
    }
    return found if {"cameras", "images"} <= set(found) else {}


def missing_file(folder: Path) -> str | None:
    """Return the name of the file that a model in a folder lacks, or None if there is no model."""
    try:
        names = {path.name.lower() for path in folder.iterdir() if path.is_file()}
    except OSError:
        return None
    if model_files(folder):
        return None
    for extension in (".bin", ".txt"):
        needed = {"cameras" + extension, "images" + extension}
        # Text files may have such names for other reasons; points beside them decide.
        sure = extension == ".bin" or "points3d" + extension in names
        if sure and needed & names:
            return (needed - names).pop()
    return None


def count_images(folder: Path) -> int:
    """Return how many images with poses a model has, 0 if it cannot be read."""
    path = model_files(folder)["images"]
    try:
        if path.suffix.lower() == ".bin":
            with path.open("rb") as file:
                return int(struct.unpack("<Q", file.read(8))[0])
        return sum(1 for _ in _text_images(path))
    except (OSError, struct.error, InputError):
        return 0


def read_model(folder: Path) -> Model:
    """Read a model; a missing or damaged file of points gives a warning only.

    Raises:
        InputError: The cameras or images cannot be read.
    """
    files = model_files(folder)
    binary = files["images"].suffix.lower() == ".bin"
    cameras = dict(_binary_cameras(files["cameras"]) if binary else _text_cameras(files["cameras"]))
    images = list(_binary_images(files["images"]) if binary else _text_images(files["images"]))
    if binary:
        _warn_of_text(folder, images)
    ids, points = np.zeros(0, np.int64), np.zeros((0, 3))
    if "points3d" in files:
        try:
            read = _binary_points if binary else _text_points
            ids, points = read(files["points3d"])
        except InputError as error:
            warn(f"{error}; the points are not used")
    order = np.argsort(ids, kind="stable")
    return Model(cameras, images, ids[order], points[order])


def _warn_of_text(folder: Path, images: list[ModelImage]) -> None:
    """Warn of images in a text model beside a binary one that have other poses, or are others."""
    path = next((p for p in sorted(folder.iterdir()) if p.name.lower() == "images.txt"), None)
    if path is None:
        return
    try:
        text = {image.name: image for image in _text_images(path)}
    except InputError:
        text = {}
    binary = {image.name: image for image in images}
    other = [n for n in binary.keys() | text.keys() if not _same_pose(binary.get(n), text.get(n))]
    if other:
        warn(
            f"{folder} has a binary model and a text model, which differ in "
            f"{counted(len(other), 'image')} ({listed(sorted(other))}); the binary one is used; "
            "remove the one that is out of date"
        )


def _same_pose(a: ModelImage | None, b: ModelImage | None) -> bool:
    if a is None or b is None:
        return False
    # Text may be rounded. A rotation has two quaternions.
    cosine = abs(float(a.quat @ b.quat)) / max(float(np.linalg.norm(a.quat) ** 2), 1e-12)
    size = 1 + np.abs(a.translation).max()
    near = np.abs(a.translation - b.translation).max() < POSE_TOLERANCE * size
    return bool(near and abs(cosine - 1) < POSE_TOLERANCE)


class _Reader:
    """Little-endian values of a binary file, one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = path.read_bytes()
        check_stand_in(path, self.content)
        self.offset = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + layout)
        self.need(size)
        values = struct.unpack_from("<" + layout, self.content, self.offset)
        self.offset += size
        return values

    def count(self, smallest: int) -> int:
        """Read a number of entries that take at least `smallest` bytes each."""
        (count,) = self.take("Q")
        self.need(int(count) * smallest)
        return int(count)

    def need(self, size: int) -> None:
        if self.offset + size > len(self.content):
            raise InputError(
                f"{self.path} is truncated: {self.offset + size} bytes expected, "
                f"{len(self.content)} found; export the model again"
            )

    def text(self) -> str:
        end = self.content.find(b"\0", self.offset, self.offset + MAX_NAME)
        if end < 0:
            raise InputError(f"{self.path} is damaged: a name has no end; export the model again")
        name = self.content[self.offset : end]
        self.offset = end + 1
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            return name.decode("cp1252", errors="replace")


def _binary_cameras(path: Path) -> Iterator[tuple[int, ModelCamera]]:
    reader = _Reader(path)
    for _ in range(reader.count(48)):
        identity, model, width, height = map(int, reader.take("IiQQ"))
        if model not in MODELS:
            raise InputError(
                f"{path}: camera {identity} has the camera model {model}, which recon does not "
                f"know; expected one of {', '.join(NUM_PARAMETERS)}; run "
                "`colmap image_undistorter` and use its output"
            )
        name, count = MODELS[model]
        yield identity, ModelCamera(name, width, height, reader.take(f"{count}d"))


def _binary_images(path: Path) -> Iterator[ModelImage]:
    reader = _Reader(path)
    for _ in range(reader.count(73)):
        _, *pose, camera = reader.take("I7dI")
        name = reader.text()
        count = reader.count(24)
        table = np.frombuffer(
            reader.content, np.dtype("<f8, <f8, <i8"), count=count, offset=reader.offset
        )
        reader.offset += 24 * count
        yield ModelImage(
            name, int(camera), np.array(pose[:4]), np.array(pose[4:]), table["f2"].copy()
        )


def _binary_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = _Reader(path)
    ids, points = [], []
    for _ in range(reader.count(51)):
        identity, *values = reader.take("Q3d3BdQ")
        reader.need(8 * int(values[-1]))
        reader.offset += 8 * int(values[-1])
        ids.append(int(identity))
        points.append(values[:3])
    return np.array(ids, np.uint64).astype(np.int64), np.array(points).reshape(-1, 3)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines without comments, each after the text that names it in messages."""
    # Not splitlines(), which also splits at characters that names may have.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.lstrip().startswith("#"):
            yield f"{path}, line {number}", line.rstrip("\r")


def _text_cameras(path: Path) -> Iterator[tuple[int, ModelCamera]]:
    for where, line in _lines(path):
        if not line.strip():
            continue
        try:
            identity, model, width, height, *values = line.split()
            # Scripts write names in lower case and sizes as 640.0, which COLMAP does not.
            model, parameters = model.upper(), tuple(map(_float, values))
            if len(parameters) != NUM_PARAMETERS.get(model, len(parameters)):
                raise ValueError(line)
            yield int(identity), ModelCamera(model, _whole(width), _whole(height), parameters)
        except ValueError as error:
            raise InputError(
                f"{where}: expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS, found {line[:80]!r}; "
                "export the model again"
            ) from error


def _text_images(path: Path) -> Iterator[ModelImage]:
    """Read the images, whose lines of points may be missing."""
    image: ModelImage | None = None
    for where, line in _lines(path):
        points = None if image is None else _point_ids(line)
        if image is not None and points is not None:
            yield ModelImage(image.name, image.camera, image.quat, image.translation, points)
            image = None
        else:
            if image is not None:
                yield image
            image = _text_image(where, line) if line.strip() else None
    if image is not None:
        yield image


def _text_image(where: str, line: str) -> ModelImage:
    # Names may have spaces, also several in a row.
    fields = line.split(None, HEADER_NUMBERS)
    try:
        int(fields[0])
        pose = np.array([_float(field) for field in fields[1:8]])
        name = fields[HEADER_NUMBERS].rstrip()
        return ModelImage(name, int(fields[8]), pose[:4], pose[4:], np.zeros(0, np.int64))
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{where}: expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, "
            f"found {line[:80]!r}; export the model again"
        ) from error


def _whole(text: str) -> int:
    """Read a whole number that may be written as a float."""
    number = _float(text)
    if not number.is_integer() or abs(number) > MAX_WHOLE:
        raise ValueError(text)
    return int(number)


def _float(text: str) -> float:
    """Read a number, also NaN and infinity as older C libraries write them, and decimal commas."""
    return float("nan") if NOT_A_NUMBER.fullmatch(text) else float(text.replace(",", "."))


def _point_ids(line: str) -> Int[np.ndarray, " k"] | None:
    """Read a line of X Y POINT3D_ID triples; None if it is not one."""
    fields = line.split()
    if len(fields) % 3:
        return None
    try:
        [_float(field) for field in fields]
        return np.array([int(field) for field in fields[2::3]], np.int64)
    except (ValueError, OverflowError):
        return None


def _text_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    ids, points = [], []
    for where, line in _lines(path):
        if fields := line.split(None, 4):
            try:
                points.append([_float(field) for field in fields[1:4]])
                ids.append(np.int64(int(fields[0])))
                if len(points[-1]) < 3:
                    raise ValueError(line)
            except (ValueError, IndexError, OverflowError) as error:
                raise InputError(
                    f"{where}: expected POINT3D_ID X Y Z R G B ERROR TRACK, found {line[:80]!r}"
                ) from error
    return np.array(ids, np.int64), np.array(points).reshape(-1, 3)
