"""Reader of nerfstudio's `transforms.json`.

Matrices are camera-to-world with OpenGL axes. `applied_transform` is not undone: the
frame of the matrices is the frame of the scene.
"""

import contextlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.capture.camera_lists import camera_document
from recon.capture.geometry import (
    Intrinsics,
    canonical_distortion,
    checked_K,
    viewmat_from_c2w,
)
from recon.capture.lenses import PANORAMA, lens_camera
from recon.capture.names import find_masks, find_photos, name_below
from recon.capture.orientation import fits_oriented, size_for_center
from recon.capture.types import Capture, DistortionModel, Frame, FrameCamera
from recon.capture.valid_frames import Entry, valid_frames
from recon.errors import InputError, LeftOutWarning, listed, shortened, warn
from recon.formats.ply_header import read_points
from recon.formats.y_up import OPENGL_FLIP
from render import Cameras

MODELS: dict[str, DistortionModel] = {
    "PINHOLE": "none",
    "SIMPLE_PINHOLE": "none",
    "SIMPLE_RADIAL": "opencv",
    "RADIAL": "opencv",
    "OPENCV": "opencv",
    "OPENCV_FISHEYE": "fisheye",
}
# In OpenCV's order; k4 k5 k6 of OPENCV are its rational terms, as in COLMAP's FULL_OPENCV.
COEFFICIENTS: dict[DistortionModel, tuple[str, ...]] = {
    "none": (),
    "opencv": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "fisheye": ("k1", "k2", "k3", "k4"),
    "lens": (),
}
# Order of `distortion_params`, which go before coefficients with names.
LISTED_COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")
MASK_KEYS = ("mask_path", "image_mask", "mask_file_path", "mask")
# Of a camera-to-world matrix.
LAST_ROW = (0, 0, 0, 1)
# Files round their values; a larger relative difference is a contradiction.
FOCAL_TOLERANCE = 0.01


def read_transforms(path: Path, photos: bool = True, above: Path | None = None) -> Capture:
    """Read the capture that a transforms.json describes.

    Args:
        path: The file.
        photos: Whether photos and masks must exist. Without them the file must give their sizes.
        above: Folder above that of the file where photos are searched if none is beside the file.

    Raises:
        InputError: The file, or a frame of it, is invalid.
    """
    document = camera_document(path)
    entries = document.get("frames")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} has no frames; expected a list 'frames' with one entry per photo")
    indices, names = _names(path, entries)
    merged = [_merged(document, entries[i]) for i in indices]
    photo_paths = _photos(path, names, merged, photos, above)
    mask_paths = _masks(path, merged, photos)
    points = _sparse_points(path, document)
    made: list[Entry] = [
        (name, photo, partial(_frame, path, f"frame {i} ({name})", values, mask, points))
        for i, name, values, photo, mask in zip(
            indices, names, merged, photo_paths, mask_paths, strict=True
        )
    ]
    frames, lost = valid_frames(str(path), made, photos, num_needed=2 if photos else 1)
    return Capture(path.parent, "transforms", frames, left_out=lost)


def _names(path: Path, entries: list[Any]) -> tuple[list[int], list[str]]:
    """Return the indices of the frames that name their photo, and these names."""
    found: dict[int, str] = {}
    for i, entry in enumerate(entries):
        name = entry.get("file_path") if isinstance(entry, dict) else None
        if isinstance(name, str) and name.strip():
            found[i] = name.removeprefix("./")
    unnamed = [f"frame {i}" for i in range(len(entries)) if i not in found]
    if unnamed:
        text = f"{listed(unnamed)} has no file_path; expected the name of its photo"
        if not found:
            raise InputError(f"{path}, {text}")
        warn(f"{path}: left out {len(unnamed)} of {len(entries)} photos: {text}", LeftOutWarning)
    return list(found), list(found.values())


def _frame(
    path: Path,
    title: str,
    values: dict[str, Any],
    mask: Path | None,
    points: Float[Tensor, "m 3"] | None,
    photo: Path,
) -> Frame:
    camera, oriented = _camera(photo, values, f"{path}, {title}")
    name = _shown_name(values["file_path"].removeprefix("./"), photo, path.parent)
    seen = None if points is None else points[_inside(points, camera)]
    inverted = bool(values.get("mask_inverted"))
    return Frame(name, photo, camera, mask, inverted, oriented, points=seen)


def _shown_name(name: str, photo: Path, folder: Path) -> str:
    """Return the name relative to the folder: as the file has it unless it is of another system."""
    if "\\" in name or Path(name).is_absolute() or ":" in name:
        return name_below(photo, folder)
    return name


def _photos(
    path: Path,
    names: list[str],
    merged: list[dict[str, Any]],
    needed: bool,
    above: Path | None,
) -> list[Path | None]:
    """Find the photos; without them, return the paths where they would be."""
    if needed or not all("w" in values and "h" in values for values in merged):
        try:
            return find_photos(path.parent, names, str(path), (".", "images"))
        except InputError:
            if above is None:
                raise
            return find_photos(above, names, str(path))
    return [path.parent / name.replace("\\", "/") for name in names]


def _masks(path: Path, merged: list[dict[str, Any]], needed: bool) -> list[Path | None]:
    """Find the masks that the file names."""
    named = [next((v for k in MASK_KEYS if (v := values.get(k))), None) for values in merged]
    names = [str(name) for name in named if name is not None]
    if not needed or not names:
        return [None if name is None else path.parent / str(name) for name in named]
    found = iter(find_masks(path.parent, names, str(path)))
    return [None if name is None else next(found) for name in named]


def _merged(document: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Merge the values of a frame over those of the file.

    Either form of the focal length replaces the other. A value of null counts as absent.
    """
    common = dict(document)
    if "fl_x" in entry or "camera_angle_x" in entry:
        for key in ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y"):
            common.pop(key, None)
    given = {key: value for key, value in common.items() if value is not None}
    return given | {key: value for key, value in entry.items() if value is not None}


def _camera(image_path: Path, entry: dict[str, Any], where: str) -> tuple[FrameCamera, bool]:
    """Return the camera, and whether it belongs to the photo as EXIF says to rotate it."""
    center = None
    if "cx" in entry and "cy" in entry:
        center = _number(entry, "cx", where), _number(entry, "cy", where)
    if "w" in entry and "h" in entry:
        width, height = (round(_number(entry, key, where)) for key in ("w", "h"))
        oriented = fits_oriented(image_path, (width, height))
    else:
        (width, height), oriented = size_for_center(image_path, center)
    viewmat = viewmat_from_c2w(_matrix(entry, where) * OPENGL_FLIP, f"{where}: transform_matrix")
    if str(entry.get("camera_model")).upper() == PANORAMA:
        params = float(width), float(height)
        return lens_camera(PANORAMA, params, viewmat, (width, height), where), oriented
    fx, fy = _focal(entry, width, height, where)
    cx = _number(entry, "cx", where, width / 2)
    cy = _number(entry, "cy", where, height / 2)
    K = checked_K(Intrinsics(fx, fy, cx, cy, width, height), where)
    return FrameCamera(viewmat, K, width, height, *_distortion(entry, where)), oriented


def _matrix(entry: dict[str, Any], where: str) -> Float[np.ndarray, "4 4"]:
    try:
        matrix = _unflattened(np.array(entry["transform_matrix"], dtype=np.float64))
    except (KeyError, TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        found = "x".join(str(n) for n in matrix.shape) if matrix.size else "none"
        raise InputError(
            f"{where}: transform_matrix must be a 4x4 matrix of numbers (camera to world), "
            f"found {found}"
        )
    if len(matrix) == 4 and np.abs(matrix[3] - LAST_ROW).max() > 1e-6:
        raise InputError(
            f"{where}: the last row of transform_matrix must be 0 0 0 1, found "
            f"{' '.join(f'{value:g}' for value in matrix[3])}; it may be transposed"
        )
    full = np.eye(4)
    full[:3] = matrix[:3]
    return full


def _unflattened(values: np.ndarray) -> np.ndarray:
    """Return the matrix of a list of 12 or 16 numbers, row by row or column by column."""
    if values.shape not in ((12,), (16,)):
        return values
    matrix = values.reshape(-1, 4)
    by_columns = len(matrix) == 4 and (matrix[:, 3] == LAST_ROW).all()
    # Both fit a matrix without translation, whose order is that of rows.
    return matrix.T if by_columns and (matrix[3] != LAST_ROW).any() else matrix


def _focal(entry: dict[str, Any], width: int, height: int, where: str) -> tuple[float, float]:
    # Blender's fields of view, as in the NeRF synthetic scenes.
    by_angle = _focal_of_angle(entry, "camera_angle_x", width, where)
    if "fl_x" not in entry:
        # Pixels are square if one of the angles is missing.
        fy = _focal_of_angle(entry, "camera_angle_y", height, where) or by_angle
        fx = by_angle or fy
        if fx is None or fy is None:
            raise InputError(
                f"{where} has no focal length; expected fl_x (px), or camera_angle_x or "
                "camera_angle_y (rad)"
            )
        return fx, fy
    fx = _number(entry, "fl_x", where)
    if by_angle is not None and abs(by_angle - fx) > FOCAL_TOLERANCE * abs(fx):
        raise InputError(
            f"{where}: fl_x {fx:g} and camera_angle_x, which gives {by_angle:g} px, contradict "
            "each other; remove the wrong one"
        )
    return fx, _number(entry, "fl_y", where, fx)


def _focal_of_angle(entry: dict[str, Any], key: str, side: int, where: str) -> float | None:
    if key not in entry:
        return None
    angle = _number(entry, key, where)
    if not 0 < angle < math.pi:
        raise InputError(f"{where}: {key} must be between 0 and pi radians, found {angle:g}")
    return 0.5 * side / math.tan(0.5 * angle)


def _number(entry: dict[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = entry.get(key, default)
    if isinstance(value, str):
        # nerfstudio's converter for RealityCapture writes distortions as text.
        with contextlib.suppress(ValueError):
            value = float(value)
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer of more than 308 digits
            number = float(value)
    if not math.isfinite(number):
        raise InputError(f"{where}: {key} must be a finite number, found {shortened(value)}")
    return number


def _distortion(entry: dict[str, Any], where: str) -> tuple[DistortionModel, tuple[float, ...]]:
    # instant-ngp, which uses the same layout, marks fisheyes by a flag.
    name = str(entry.get("camera_model", "OPENCV_FISHEYE" if entry.get("is_fisheye") else "OPENCV"))
    name = name.upper()
    if name not in MODELS:
        raise InputError(
            f"{where}: unknown camera_model {name!r}; expected one of {', '.join(MODELS)}; "
            "undistort the photos first"
        )
    model = MODELS[name]
    if "distortion_params" in entry:
        entry = _named_coefficients(entry["distortion_params"], where)
    values = {key: _number(entry, key, where, 0.0) for key in COEFFICIENTS["opencv"]}
    if model == "opencv" and values["k4"] and not {"k5", "k6"} & entry.keys():
        raise InputError(
            f"{where}: k4 without k5 and k6 is a radial term to nerfstudio and part of a quotient "
            "to OpenCV; undistort the photos first, or give k5 and k6 if it is OpenCV's"
        )
    unused = [key for key in values if values[key] and key not in COEFFICIENTS[model]]
    if unused:
        raise InputError(
            f"{where}: camera_model {name} has no {', '.join(unused)}; expected a camera_model "
            "with distortion (OPENCV) or no such values; remove the wrong one"
        )
    return canonical_distortion(model, tuple(values[key] for key in COEFFICIENTS[model]))


def _named_coefficients(values: Any, where: str) -> dict[str, Any]:
    """Name the coefficients of nerfstudio's `distortion_params`."""
    if not isinstance(values, list) or len(values) != len(LISTED_COEFFICIENTS):
        raise InputError(
            f"{where}: distortion_params must be a list of {', '.join(LISTED_COEFFICIENTS)}, found "
            f"{str(values)[:40]}"
        )
    return dict(zip(LISTED_COEFFICIENTS, values, strict=True))


def _sparse_points(path: Path, document: dict[str, Any]) -> Float[Tensor, "m 3"] | None:
    """Read the vertices of ply_file_path; a missing file is not an error."""
    name = document.get("ply_file_path")
    if not name or not (path.parent / str(name)).is_file():
        return None
    try:
        vertices = read_points(path.parent / str(name))
    except InputError as error:
        warn(
            f"{path}: cannot read ply_file_path {name} ({error}); expected a PLY of points; the "
            "points are not used"
        )
        return None
    return torch.from_numpy(vertices) if len(vertices) else None


def _inside(points: Float[Tensor, "m 3"], camera: FrameCamera) -> Bool[Tensor, " m"]:
    """Return which world points are in front of the camera and inside its image."""
    local = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    depth = local[:, 2]
    pixel = local @ camera.K.T / depth.clamp_min(1e-12)[:, None]
    own = Cameras(camera.viewmat, camera.K, camera.width, camera.height)
    return own.contains(pixel[:, :2], depth)
