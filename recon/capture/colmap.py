"""COLMAP projects: their models, binary or text, and photos."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.colmap_files import (
    NUM_PARAMETERS,
    Model,
    ModelImage,
    count_images,
    missing_file,
    model_files,
    read_model,
)
from recon.capture.geometry import Intrinsics, canonical_distortion, checked_K
from recon.capture.images import natural_key
from recon.capture.lenses import lens_camera
from recon.capture.names import find_photos, images_below, name_below
from recon.capture.orientation import fits_oriented
from recon.capture.types import Capture, DistortionModel, Frame, FrameCamera
from recon.capture.valid_frames import valid_frames
from recon.errors import InputError, listed, warn
from render.quaternions import quats_to_rotmats

# Where models are in a project, the likeliest first; {} stands for any folder.
MODEL_FOLDERS = (
    "", "sparse", "sparse/{}", "colmap", "colmap/sparse", "colmap/sparse/{}", "dense/sparse",
    "dense/{}/sparse", "dense/{}/sparse/{}", "undistorted/sparse", "undistorted/sparse/{}",
    "model", "models/{}", "sfm", "sfm/{}", "{}/sparse", "{}/sparse/{}", "{}/colmap/sparse/{}",
    "{}",
)  # fmt: skip
# Folders of a model itself, which the project is above.
OF_MODEL = re.compile(r"sparse|colmap|models?|\d+", re.IGNORECASE)
# Folders below a project that hold a whole project themselves.
OF_PROJECT = re.compile(r"(?:(?P<root>.*)/)?(?:colmap/)?sparse(?:/[^/]+)?", re.IGNORECASE)
# COLMAP's camera models (src/colmap/sensor/models.h): whether there is one focal length, the
# distortion model, and the index of each OpenCV coefficient in the parameter list, None = 0.
_LAYOUTS: dict[str, tuple[bool, DistortionModel, tuple[int | None, ...]]] = {
    "SIMPLE_PINHOLE": (True, "none", ()),
    "PINHOLE": (False, "none", ()),
    "SIMPLE_RADIAL": (True, "opencv", (3, None, None, None)),
    "RADIAL": (True, "opencv", (3, 4, None, None)),
    "OPENCV": (False, "opencv", (4, 5, 6, 7)),
    "FULL_OPENCV": (False, "opencv", (4, 5, 6, 7, 8, 9, 10, 11)),
    "SIMPLE_FISHEYE": (True, "fisheye", (None, None, None, None)),
    "FISHEYE": (False, "fisheye", (None, None, None, None)),
    "SIMPLE_RADIAL_FISHEYE": (True, "fisheye", (3, None, None, None)),
    "RADIAL_FISHEYE": (True, "fisheye", (3, 4, None, None)),
    "OPENCV_FISHEYE": (False, "fisheye", (4, 5, 6, 7)),
}


def find_colmap(folder: Path) -> Path | None:
    """Return the folder of the largest COLMAP model where a project most likely has it, or None.

    Warnings name the other models, and those without their cameras or images.
    """
    matching = [_matching(folder, pattern) for pattern in MODEL_FOLDERS]
    locations = [[path for path in paths if model_files(path)] for paths in matching]
    for path in dict.fromkeys(path for paths in matching for path in paths):
        if missing := missing_file(path):
            warn(f"the COLMAP model in {path} is not used: it has no {missing}; export it again")
    models = list(dict.fromkeys(path for location in locations for path in location))
    if not models:
        return None
    counts = {model: count_images(model) for model in models}
    chosen = max(next(filter(None, locations)), key=lambda model: counts[model])
    if len(models) > 1:
        others = [
            f"{m.relative_to(folder).as_posix()} ({counts[m]} photos)"
            for m in models
            if m != chosen
        ]
        warn(
            f"{folder} has {len(models)} COLMAP models; the one in "
            f"{chosen.relative_to(folder).as_posix()} ({counts[chosen]} photos) is used, and not "
            f"{listed(others)}"
        )
    return chosen


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return the folders that match a pattern of MODEL_FOLDERS, in any case."""
    found = [folder]
    for part in filter(None, pattern.split("/")):
        found = [
            child
            for parent in found
            for child in _subfolders(parent)
            if part in ("{}", child.name.lower())
        ]
    return found


def _subfolders(folder: Path) -> list[Path]:
    try:
        children = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError:
        return []
    return sorted(children, key=lambda path: natural_key(path.name))


def read_colmap(root: Path, model: Path, photos: bool = True) -> Capture:
    """Read the registered images of a COLMAP model in natural order, in the model's world frame.

    Args:
        root: Folder of the project, which has the images.
        model: Folder of the model.
        photos: Whether the photos are used, and not only their cameras.

    Raises:
        InputError: The model cannot be read, or all its images are missing or invalid.
    """
    content = _read_model(model)
    root = _project(root, model)
    images = sorted(content.images, key=lambda entry: natural_key(entry.name))
    paths = _find_images(root, model, [entry.name for entry in images])
    made = [
        (entry.name, path, partial(_frame, content, entry, root, model))
        for entry, path in zip(images, paths, strict=True)
    ]
    frames, lost = valid_frames(f"the COLMAP model {model}", made, num_needed=2 if photos else 1)
    return Capture(root, "colmap", frames, left_out=lost)


def _frame(content: Model, entry: ModelImage, root: Path, model: Path, path: Path) -> Frame:
    camera = _camera(content, entry, f"{model}, image {entry.name}")
    oriented = fits_oriented(path, (camera.width, camera.height))
    points = _seen(content, entry)
    return Frame(name_below(path, root), path, camera, oriented=oriented, points=points)


def read_cameras(model: Path) -> dict[str, tuple[FrameCamera, Float[Tensor, "m 3"] | None]]:
    """Read the camera of each registered image of a COLMAP model, and the points that it sees.

    Returns:
        By name of the image: the camera, and points in the world frame (None if the model has
        none).

    Raises:
        InputError: The model cannot be read, or has an unsupported camera model or no image.
    """
    content = _read_model(model)
    return {
        entry.name: (_camera(content, entry, f"{model}, image {entry.name}"), _seen(content, entry))
        for entry in content.images
    }


def _read_model(model: Path) -> Model:
    content = read_model(model)
    if not content.images:
        raise InputError(f"the COLMAP model {model} has no registered image; run the mapper again")
    return content


def _project(root: Path, model: Path) -> Path:
    """Return the folder of the project if only that of the model is given, without photos."""
    if root.resolve() != model.resolve() or next(images_below(root), None) is not None:
        return root
    project = model.absolute()
    while OF_MODEL.fullmatch(project.name):
        project = project.parent
    return project


def _find_images(root: Path, model: Path, names: Sequence[str]) -> list[Path | None]:
    """Find the images of a model, first in the project that is closest to it."""
    folders = ["images", "."]
    if model.is_relative_to(root):
        inner = OF_PROJECT.fullmatch(model.relative_to(root).as_posix())
        if inner and inner["root"]:
            folders = [f"{inner['root']}/images", f"{inner['root']}/input", *folders]
    return find_photos(root, names, f"the COLMAP model {model}", folders)


def _seen(content: Model, entry: ModelImage) -> Float[Tensor, "m 3"] | None:
    """Return the points that an image sees, or None if the model has no points."""
    if not len(content.points):
        return None
    # An image may observe a point several times, and one that is not in the model.
    seen = np.unique(entry.point_ids)
    rows = np.searchsorted(content.point_ids, seen).clip(max=len(content.points) - 1)
    return torch.from_numpy(content.points[rows[content.point_ids[rows] == seen]])


def _camera(content: Model, entry: ModelImage, where: str) -> FrameCamera:
    if entry.camera not in content.cameras:
        raise InputError(
            f"{where} has camera {entry.camera}, which the model does not have; "
            "export the model again"
        )
    camera = content.cameras[entry.camera]
    params = camera.parameters
    if camera.model not in NUM_PARAMETERS:
        raise InputError(
            f"{where} has the camera model {camera.model}, which recon does not read; expected one "
            f"of {', '.join(NUM_PARAMETERS)}; run `colmap image_undistorter` and use its output"
        )
    if len(params) != NUM_PARAMETERS[camera.model]:
        raise InputError(
            f"{where}: a {camera.model} camera has {NUM_PARAMETERS[camera.model]} parameters, "
            f"found {len(params)}; export the model again"
        )
    if camera.model not in _LAYOUTS:
        return lens_camera(
            camera.model, params, _viewmat(entry, where), (camera.width, camera.height), where
        )
    single_focal, model, indices = _LAYOUTS[camera.model]
    fx, fy, cx, cy = (params[0], *params[:3]) if single_focal else params[:4]
    values = Intrinsics(fx, fy, cx, cy, camera.width, camera.height)
    return FrameCamera(
        _viewmat(entry, where),
        checked_K(values, where),
        camera.width,
        camera.height,
        *canonical_distortion(model, tuple(0.0 if i is None else params[i] for i in indices)),
    )


def _viewmat(entry: ModelImage, where: str) -> Float[Tensor, "4 4"]:
    """Return camera from world."""
    length = float(np.linalg.norm(entry.quat))
    if not (np.isfinite(entry.quat).all() and np.isfinite(entry.translation).all() and length > 0):
        raise InputError(
            f"{where} has a pose with NaN or infinite values or no rotation; export the model again"
        )
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = quats_to_rotmats(torch.from_numpy(entry.quat / length))
    viewmat[:3, 3] = torch.from_numpy(entry.translation)
    return viewmat
