"""COLMAP projects, binary or text, through pycolmap."""

import glob
import importlib.util
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from recon.capture.geometry import Intrinsics, canonical_distortion, checked_K
from recon.capture.images import is_image
from recon.capture.isolated_process import run_script
from recon.capture.listing import natural_key
from recon.capture.types import Capture, DistortionModel, Frame, FrameCamera
from recon.errors import InputError, MissingDependency

PLACES = (".", "sparse", "sparse/0", "colmap/sparse/0")
TIMEOUT_S = 600.0
# COLMAP's parameters in order (src/colmap/sensor/models.h): the distortion model and
# the position of each OpenCV coefficient in the parameter list, None = 0.
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
    """The folder of the COLMAP model inside a project, or None."""
    for place in PLACES:
        for extension in (".bin", ".txt"):
            if all((folder / place / f"{n}{extension}").is_file() for n in ("cameras", "images")):
                return folder / place
    return None


def read_colmap(root: Path, model: Path) -> Capture:
    """The registered images of a COLMAP model, in natural order, in the model's frame.

    InputError when pycolmap is missing, the model cannot be read, a camera is of a kind
    that recon does not know, or images are not on disk.
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
        # An image may see a point at several places.
        rows = sorted(set(entry["point_rows"]))
        frames.append(Frame(path.relative_to(root).as_posix(), path, camera, points=points[rows]))
    return Capture(root, "colmap", tuple(frames))


def _dump(model: Path) -> dict[str, Any]:
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingDependency(
            f"reading the COLMAP model {model} needs an extra package; "
            "pip install 'reconsplat[sfm]'"
        )
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "model.json"
        try:
            reason = run_script("colmap_dump.py", [str(model), str(output)], TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"reading the COLMAP model {model} took over {TIMEOUT_S:.0f} s; try a smaller model"
            ) from error
        if reason is None:
            return json.loads(output.read_text(encoding="utf-8"))
    raise InputError(
        f"cannot read the COLMAP model {model}: {reason}; expected whole cameras, images and "
        "points3D files, all .bin or all .txt; export the model again"
    )


def _find_images(root: Path, names: list[str]) -> list[Path]:
    """Every image of the model, from `images` or beside the model's project."""
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
        f"the COLMAP project {root} comes without its images: expected {names[0]} and "
        f"{len(names) - 1} more in {root / 'images'}; put them there"
    )


def _find_image(folder: Path, name: str) -> Path | None:
    """The image by name, or the only picture that differs in nothing but the extension."""
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
    single_focal, model, places = _LAYOUTS[name]
    fx, fy, cx, cy = (params[0], *params[:3]) if single_focal else params[:4]
    values = Intrinsics(fx, fy, cx, cy, camera["width"], camera["height"])
    coefficients = tuple(0.0 if i is None else params[i] for i in places)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3] = torch.tensor(cam_from_world, dtype=torch.float64)
    if not viewmat.isfinite().all():
        raise InputError(f"{where} has NaN or infinite values in its place; export the model again")
    return FrameCamera(
        viewmat,
        checked_K(values, where),
        camera["width"],
        camera["height"],
        *canonical_distortion(model, coefficients),
    )
