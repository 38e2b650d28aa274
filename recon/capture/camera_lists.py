"""Cameras of trained scenes and of camera paths, converted to the layout of a transforms.json.

- cameras.json of the reference code of 3D Gaussian Splatting (Kerbl et al. 2023), beside a trained
  scene: camera-to-world, OpenCV axes, focal lengths in pixels, principal point in the middle.
- camera_path.json of nerfstudio: camera-to-world with OpenGL axes, vertical field of view.
"""

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from recon.capture.images import natural_key
from recon.capture.text import read_json
from recon.errors import InputError
from recon.formats.y_up import OPENGL_FLIP

# Larger files are not looked into for frames.
MAX_BYTES = 1 << 26
LAYOUTS = "a transforms.json, cameras.json of a trained scene, or camera_path.json"


def camera_document(path: Path) -> dict[str, Any]:
    """Read a transforms.json, or another list of cameras as if it were one.

    Raises:
        InputError: It is not valid JSON, or a list of something else.
    """
    document: Any = read_json(path, LAYOUTS, (dict, list))
    if isinstance(document, list):
        return {"frames": _converted(path, document, _trained)}
    entries = document.get("camera_path")
    if not isinstance(entries, list) or "frames" in document:
        return {**document, "frames": _frames(document)}
    shared = {"w": document.get("render_width"), "h": document.get("render_height")}
    named = [{**shared, "entry": e, "name": f"{i:04d}.png"} for i, e in enumerate(entries)]
    return {"frames": _converted(path, named, _on_path)}


def _frames(document: dict[str, Any]) -> Any:
    """Return the frames of a transforms.json; those of an object have the names of their keys."""
    frames = document.get("frames")
    if not isinstance(frames, dict):
        return frames
    return [
        {"file_path": key, **entry} if isinstance(entry, dict) else entry
        for key, entry in sorted(frames.items(), key=lambda item: natural_key(item[0]))
    ]


def camera_files(folder: Path, known: Collection[str] = ()) -> list[Path]:
    """Return the files in a folder that are laid out as a transforms.json, whatever their names.

    A training split comes first, then the file with the most frames.

    Args:
        folder: Folder whose own files count, not those below it.
        known: Names of files to pass over, without reading them.
    """
    counts: dict[Path, int] = {}
    for path in sorted(folder.glob("*.[jJ][sS][oO][nN]")):
        passed = path.name.startswith(".") or path.name in known
        if not passed and path.is_file() and path.stat().st_size <= MAX_BYTES:
            try:
                frames = _frames(read_json(path, LAYOUTS))
            except InputError:
                continue
            if isinstance(frames, list) and any(map(_is_frame, frames)):
                counts[path] = len(frames)
    return sorted(counts, key=lambda path: ("train" not in path.name.lower(), -counts[path]))


def _is_frame(entry: Any) -> bool:
    return isinstance(entry, dict) and {"file_path", "transform_matrix"} <= entry.keys()


def _converted(
    path: Path, entries: list[Any], convert: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    frames = []
    for i, entry in enumerate(entries):
        try:
            frames.append(convert(entry))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise InputError(
                f"{path}, camera {i} is incomplete or damaged ({type(error).__name__}: {error}); "
                f"expected {LAYOUTS}"
            ) from error
    return frames


def _trained(entry: dict[str, Any]) -> dict[str, Any]:
    c2w = np.eye(4)
    c2w[:3, :3] = np.array(entry["rotation"], np.float64)
    c2w[:3, 3] = np.array(entry["position"], np.float64)
    return {
        "file_path": entry["img_name"],
        "transform_matrix": (c2w * OPENGL_FLIP).tolist(),
        "fl_x": entry["fx"],
        "fl_y": entry["fy"],
        "w": entry["width"],
        "h": entry["height"],
    }


def _on_path(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a camera that has no photo, but a number."""
    entry, height = values["entry"], float(values["h"])
    return {
        "file_path": values["name"],
        "transform_matrix": np.array(entry["camera_to_world"], np.float64).reshape(4, 4).tolist(),
        "fl_x": 0.5 * height / math.tan(math.radians(float(entry["fov"])) / 2),
        "w": values["w"],
        "h": values["h"],
    }
