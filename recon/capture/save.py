"""Export of cameras as nerfstudio's `transforms.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon.capture.geometry import c2w_from_viewmat
from recon.capture.names import name_below
from recon.capture.transforms import COEFFICIENTS
from recon.capture.types import DistortionModel, Frame
from recon.files import atomic_output
from recon.formats.y_up import OPENGL_FLIP

# Cameras of another lens have been replaced by pinhole cameras.
MODEL_NAMES: dict[DistortionModel, str] = {
    "none": "PINHOLE",
    "opencv": "OPENCV",
    "fisheye": "OPENCV_FISHEYE",
    "lens": "PINHOLE",
}
RATIONAL = {"k4", "k5", "k6"}


def write_transforms(path: Path, frames: Sequence[Frame]) -> None:
    """Write the frames' original cameras as transforms.json; reading it gives them back.

    Photos and masks are named relative to the file if they are below its folder, otherwise by their
    full path. Points and depth bounds are not written.
    """
    folder = path.resolve().parent
    entries = [_entry(frame, folder) for frame in frames]
    document: dict[str, Any] = {"frames": entries}
    names = {entry["camera_model"] for entry in entries}
    if len(names) == 1:
        # nerfstudio itself looks for the model here only.
        document = {"camera_model": names.pop(), "frames": entries}
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _entry(frame: Frame, folder: Path) -> dict[str, Any]:
    camera = frame.camera
    if camera is None:
        raise ValueError(f"frame {frame.name} has no camera to write")
    K = camera.K
    entry: dict[str, Any] = {
        "file_path": _relative(frame.image_path, folder),
        "camera_model": MODEL_NAMES[camera.distortion],
        "w": camera.width,
        "h": camera.height,
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
    }
    named = zip(COEFFICIENTS[camera.distortion], camera.coefficients, strict=True)
    entry.update({key: value for key, value in named if value})
    if camera.distortion == "opencv" and RATIONAL & entry.keys():
        # k4 alone has another meaning to nerfstudio.
        entry |= {key: entry.get(key, 0.0) for key in RATIONAL}
    if frame.mask_path is not None:
        entry["mask_path"] = _relative(frame.mask_path, folder)
        if frame.mask_inverted:
            entry["mask_inverted"] = True
    entry["transform_matrix"] = (c2w_from_viewmat(camera.viewmat) * OPENGL_FLIP).tolist()
    return entry


def _relative(path: Path, folder: Path) -> str:
    # A photo may be a link into another folder; the capture knows it by the path of the link.
    path = path.parent.resolve() / path.name
    return name_below(path, folder)
