"""nerfstudio's `transforms.json`, read and written.

Matrices are camera-to-world with OpenGL axes. `applied_transform` is not undone: the
frame of the matrices is the frame of the scene.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.geometry import OPENGL_FLIP, c2w_from_viewmat, intrinsics, viewmat_from_c2w
from recon.capture.images import EXTENSIONS, image_size
from recon.capture.types import Capture, DistortionModel, Frame, FrameCamera
from recon.errors import ReconError
from recon.files import atomic_output

MODELS: dict[str, DistortionModel] = {
    "PINHOLE": "none",
    "SIMPLE_PINHOLE": "none",
    "OPENCV": "opencv",
    "OPENCV_FISHEYE": "fisheye",
}
COEFFICIENTS = {"none": (), "opencv": ("k1", "k2", "p1", "p2", "k3"), "fisheye": ("k1", "k2", "k3", "k4")}


def read_transforms(path: Path) -> Capture:
    """The capture that a transforms.json describes; ReconError names file and frame."""
    document = _load_json(path)
    frames = document.get("frames")
    if not isinstance(frames, list) or not frames:
        raise ReconError(f"{path} has no frames; expected a list 'frames' with one entry a photo")
    points = _sparse_points(path, document)
    return Capture(
        root=path.parent,
        kind="transforms",
        frames=tuple(_frame(path, document, i, entry, points) for i, entry in enumerate(frames)),
    )


def write_transforms(path: Path, frames: tuple[Frame, ...]) -> None:
    """The frames' original cameras as transforms.json; reading it gives them back."""
    entries = [_entry(frame, path.resolve().parent) for frame in frames]
    names = {"none": "PINHOLE", "opencv": "OPENCV", "fisheye": "OPENCV_FISHEYE"}
    kinds = {frame.camera.distortion for frame in frames if frame.camera is not None}
    document: dict[str, Any] = {"frames": entries}
    if len(kinds) == 1:
        document = {"camera_model": names[kinds.pop()], "frames": entries}
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")


def _entry(frame: Frame, folder: Path) -> dict[str, Any]:
    camera = frame.camera
    if camera is None:
        raise ValueError(f"frame {frame.name} has no camera to write")
    image = frame.image_path.resolve()
    relative = image.relative_to(folder) if image.is_relative_to(folder) else image
    c2w = c2w_from_viewmat(camera.viewmat) @ OPENGL_FLIP
    K = camera.K
    entry: dict[str, Any] = {
        "file_path": relative.as_posix(),
        "w": camera.width,
        "h": camera.height,
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
        "transform_matrix": c2w.tolist(),
    }
    keys = COEFFICIENTS[camera.distortion]
    entry.update(dict(zip(keys, camera.coefficients, strict=False)))
    if frame.mask_path is not None:
        entry["mask_path"] = str(frame.mask_path.resolve())
    return entry


def _load_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReconError(f"{path} is not valid JSON ({error}); expected nerfstudio's layout") from error
    if not isinstance(document, dict):
        raise ReconError(f"{path} holds a {type(document).__name__}; expected a JSON object")
    return document


def _frame(
    path: Path,
    document: dict[str, Any],
    index: int,
    entry: Any,
    points: Float[Tensor, "m 3"] | None,
) -> Frame:
    where = f"{path}, frame {index}"
    if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
        raise ReconError(f"{where} has no file_path; expected the name of its photo")
    name = entry["file_path"].removeprefix("./")
    image_path = _find_image(path.parent, name, where)
    camera = _camera(image_path, {**document, **entry}, f"{where} ({name})")
    mask_path = None
    if entry.get("mask_path"):
        mask_path = path.parent / str(entry["mask_path"])
        if not mask_path.is_file():
            raise ReconError(f"{where} names the mask {mask_path}, which does not exist")
    seen = None if points is None else points[_inside(points, camera)]
    return Frame(name, image_path, camera, mask_path, seen)


def _find_image(folder: Path, name: str, where: str) -> Path:
    candidates = [folder / name] + [folder / (name + extension) for extension in EXTENSIONS]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ReconError(
        f"{where} names the image {folder / name}, which does not exist; "
        "mend file_path or put the image there"
    )


def _camera(image_path: Path, entry: dict[str, Any], where: str) -> FrameCamera:
    if "w" in entry and "h" in entry:
        width, height = (int(_number(entry, key, where)) for key in ("w", "h"))
    else:
        width, height = image_size(image_path)
    fx, fy = _focal(entry, width, where)
    cx = _number(entry, "cx", where, width / 2)
    cy = _number(entry, "cy", where, height / 2)
    distortion, coefficients = _distortion(entry, where)
    return FrameCamera(
        viewmat_from_c2w(_matrix(entry, where) @ OPENGL_FLIP, f"{where}: transform_matrix"),
        intrinsics(fx, fy, cx, cy),
        width,
        height,
        distortion,
        coefficients,
    )


def _matrix(entry: dict[str, Any], where: str) -> np.ndarray:
    try:
        matrix = np.array(entry["transform_matrix"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        found = "x".join(str(n) for n in matrix.shape) if matrix.size else "none"
        raise ReconError(
            f"{where}: transform_matrix must be a 4x4 matrix of numbers (camera to world), "
            f"found {found}"
        )
    full = np.eye(4)
    full[:3] = matrix[:3]
    return full


def _focal(entry: dict[str, Any], width: int, where: str) -> tuple[float, float]:
    if "fl_x" in entry:
        fx = _number(entry, "fl_x", where)
        fy = _number(entry, "fl_y", where, fx)
    elif "camera_angle_x" in entry:
        # Blender's field of view, as in the NeRF synthetic scenes.
        fx = fy = 0.5 * width / math.tan(0.5 * _number(entry, "camera_angle_x", where))
    else:
        raise ReconError(f"{where} has no focal length; expected fl_x (px) or camera_angle_x (rad)")
    if fx <= 0 or fy <= 0:
        raise ReconError(f"{where}: the focal length must be above 0 px, found {fx:g}, {fy:g}")
    return fx, fy


def _number(entry: dict[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ReconError(f"{where}: {key} must be a finite number, found {value!r}")
    return float(value)


def _distortion(entry: dict[str, Any], where: str) -> tuple[DistortionModel, tuple[float, ...]]:
    name = str(entry.get("camera_model", "OPENCV"))
    if name not in MODELS:
        raise ReconError(
            f"{where}: unknown camera_model {name!r}; expected one of {', '.join(MODELS)}"
        )
    model = MODELS[name]
    values = tuple(_number(entry, key, where, 0.0) for key in COEFFICIENTS[model])
    return (model, values) if any(values) or model == "fisheye" else ("none", ())


def _sparse_points(path: Path, document: dict[str, Any]) -> Float[Tensor, "m 3"] | None:
    name = document.get("ply_file_path")
    if not name or not (path.parent / str(name)).is_file():
        return None
    import trimesh

    cloud = trimesh.load(path.parent / str(name), process=False)
    vertices = np.asarray(getattr(cloud, "vertices", np.zeros((0, 3))), dtype=np.float64)
    return torch.from_numpy(vertices) if len(vertices) else None


def _inside(points: Float[Tensor, "m 3"], camera: FrameCamera) -> Tensor:
    """Which world points lie in front of the camera and within its picture."""
    local = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    depth = local[:, 2]
    pixel = local @ camera.K.T / depth.clamp_min(1e-12)[:, None]
    x, y = pixel[:, 0], pixel[:, 1]
    return (depth > 0) & (x >= 0) & (x <= camera.width) & (y >= 0) & (y <= camera.height)
