"""COLMAP projects, binary or text, through pycolmap."""

import glob
import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import torch

from recon.capture.geometry import Intrinsics, canonical_distortion, checked_K
from recon.capture.images import is_image, natural_key
from recon.capture.isolated import run_script
from recon.capture.types import Capture, DistortionModel, Frame, FrameCamera
from recon.errors import InputError, MissingDependency
from recon.files import temporary_folder

MODEL_FOLDERS = (".", "sparse", "sparse/0", "colmap/sparse/0")
READ_LIMIT_S = 600.0
# COLMAP's camera models (src/colmap/sensor/models.h): whether there is one focal length, the
# distortion model, and the index of each OpenCV coefficient in the parameter list, None = 0.
_LAYOUTS: dict[str, tuple[bool, DistortionModel, tuple[int | None, ...]]] = {
    "SIMPLE_PINHOLE": (True, "none", ()),
    "PINHOLE": (False, "none", ()),
    "SIMPLE_RADIAL": (True, "opencv", (3, None, None, None)),
    "RADIAL": (True, "opencv", (3, 4, None, None)),
    "OPENCV": (False, "opencv", (4, 5, 6, 7)),
    "FULL_OPENCV": (False, "opencv", (4, 5, 6, 7, 8, 9, 10, 11)),
    "SIMPLE_RADIAL_FISHEYE": (True, "fisheye", (3, None, None, None)),
    "RADIAL_FISHEYE": (True, "fisheye", (3, 4, None, None)),
    "OPENCV_FISHEYE": (False, "fisheye", (4, 5, 6, 7)),
}


def find_colmap(folder: Path) -> Path | None:
    """Return the folder of the COLMAP model inside a project, or None."""
    for subfolder in MODEL_FOLDERS:
        for extension in (".bin", ".txt"):
            if all(
                (folder / subfolder / f"{n}{extension}").is_file() for n in ("cameras", "images")
            ):
                return folder / subfolder
    return None


def read_colmap(root: Path, model: Path) -> Capture:
    """Read the registered images of a COLMAP model in natural order, in the model's world frame.

    Args:
        root: Folder of the project, which has the images.
        model: Folder of the model.

    Raises:
        MissingDependency: pycolmap is not installed.
        InputError: The model cannot be read, has an unsupported camera model, or images of it are
            missing.
    """
    dump = _dump(model)
    if not dump["images"]:
        raise InputError(f"the COLMAP model {model} has no registered image; run the mapper again")
    entries = sorted(dump["images"], key=lambda entry: natural_key(entry["name"]))
    paths = _find_images(root, [entry["name"] for entry in entries])
    points = torch.tensor(dump["points"], dtype=torch.float64).reshape(-1, 3)
    frames = []
    for entry, path in zip(entries, paths, strict=True):
        where = f"{model}, image {entry['name']}"
        camera = _camera(dump["cameras"][str(entry["camera"])], entry["cam_from_world"], where)
        # An image may observe a point several times.
        rows = sorted(set(entry["point_rows"]))
        frames.append(Frame(path.relative_to(root).as_posix(), path, camera, points=points[rows]))
    return Capture(root, "colmap", tuple(frames))


def _dump(model: Path) -> dict[str, Any]:
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingDependency(
            f"reading the COLMAP model {model} needs an extra package; "
            "pip install 'reconsplat[sfm]'"
        )
    with temporary_folder() as temporary:
        output = temporary / "model.json"
        try:
            reason = run_script("colmap_model.py", ["dump", str(model), str(output)], READ_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"reading the COLMAP model {model} took over {READ_LIMIT_S:.0f} s; "
                "try a smaller model"
            ) from error
        if reason is None:
            document: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
            return document
    raise InputError(
        f"cannot read the COLMAP model {model}: {reason}; expected complete cameras, images and "
        "points3D files, all .bin or all .txt; export the model again"
    )


def _find_images(root: Path, names: list[str]) -> list[Path]:
    """Find every image of the model, in the folder `images` of the project or in its root."""
    for folder in (root / "images", root):
        found = [_find_image(folder, name) for name in names]
        missing = [name for name, path in zip(names, found, strict=True) if path is None]
        if len(missing) == len(names):
            continue
        if missing:
            raise InputError(
                f"{len(missing)} of the {len(names)} images of the COLMAP model are not in "
                f"{folder}; the first is {missing[0]}; put them there"
            )
        return [path for path in found if path is not None]
    raise InputError(
        f"the COLMAP project {root} has no images: expected {names[0]} and "
        f"{len(names) - 1} more in {root / 'images'}; put them there"
    )


def _find_image(folder: Path, name: str) -> Path | None:
    """Find an image by name, or the only image whose name differs in nothing but the extension."""
    if (folder / name).is_file():
        return folder / name
    stem = glob.escape(Path(name).stem)
    twins = [p for p in (folder / name).parent.glob(f"{stem}.*") if is_image(p)]
    return twins[0] if len(twins) == 1 else None


def _camera(camera: dict[str, Any], cam_from_world: list[list[float]], where: str) -> FrameCamera:
    name, params = camera["model"], camera["params"]
    if name not in _LAYOUTS:
        raise InputError(
            f"{where} has the camera model {name}, which recon does not read; expected one of "
            f"{', '.join(_LAYOUTS)}; run `colmap image_undistorter` and use its output"
        )
    single_focal, model, indices = _LAYOUTS[name]
    fx, fy, cx, cy = (params[0], *params[:3]) if single_focal else params[:4]
    values = Intrinsics(fx, fy, cx, cy, camera["width"], camera["height"])
    coefficients = tuple(0.0 if i is None else params[i] for i in indices)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3] = torch.tensor(cam_from_world, dtype=torch.float64)
    if not viewmat.isfinite().all():
        raise InputError(f"{where} has a pose with NaN or infinite values; export the model again")
    return FrameCamera(
        viewmat,
        checked_K(values, where),
        camera["width"],
        camera["height"],
        *canonical_distortion(model, coefficients),
    )
