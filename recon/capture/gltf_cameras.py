"""Cameras of a glTF file, such as Blender exports: still ones, and animated ones frame by frame."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.capture.types import Capture, Frame, FrameCamera
from recon.errors import InputError, shortened
from recon.formats.gltf import Document, object_of, objects, read_document
from recon.formats.y_up import GLTF_FROM_SCENE, OPENGL_FLIP, SIDE_PX, Up
from recon.start_camera import checked_camera
from render.quaternions import slerp

# Properties of a node that an animation changes, and their numbers of values.
WIDTHS = {"translation": 3, "rotation": 4, "scale": 3}
# Frames per second that keyframes are at most resampled with, and number of frames of an animation.
MAX_RATE, MAX_FRAMES = 240.0, 100_000
# Node, property, times [k] and values [k c] or [3k c], and interpolation.
Channel = tuple[int, str, np.ndarray, np.ndarray, str]


def read_gltf_cameras(path: Path, up: Up) -> Capture:
    """Read the perspective cameras of a glTF file; they have no photos.

    A camera that moves gives a frame for each keyframe, or for each smallest distance between two
    keyframes.

    Args:
        path: A .glb or .gltf.
        up: Axis of the scene that is +y in the file.

    Raises:
        InputError: There is no camera, or the file is damaged.
    """
    document = read_document(path)
    scene_from_gltf = np.eye(4)
    scene_from_gltf[:3, :3] = GLTF_FROM_SCENE[up].T
    channels = _channels(document)
    times = _times(path, channels)
    # Other movements are in no photo.
    moved = document.nodes_of_cameras()
    channels = [channel for channel in channels if channel[0] in moved]
    poses: dict[str, list[tuple[np.ndarray, dict[str, Any]]]] = {}
    for time in times or [0.0]:
        seen: dict[str, int] = {}
        for name, matrix, lens in document.perspective_cameras(_changes(channels, time)):
            seen[name] = seen.get(name, 0) + 1
            key = name if seen[name] == 1 else f"{name}_{seen[name]}"
            poses.setdefault(key, []).append((scene_from_gltf @ matrix, lens))
    if not poses:
        raise InputError(
            f"{path} has no perspective cameras; export it from Blender with Include > Cameras"
        )
    frames = []
    for name, moving in poses.items():
        still = all(np.allclose(matrix, moving[0][0]) for matrix, _ in moving)
        for index, (matrix, lens) in enumerate(moving[:1] if still else moving):
            label = name if still else f"{name}_{index:04d}"
            camera = _camera(path, label, matrix, lens)
            file = f"{label.replace('/', '_')}.png"
            frames.append(Frame(file, path.parent / file, camera))
    return Capture(path.parent, "exported", tuple(frames), origin=path)


def _camera(path: Path, name: str, matrix: np.ndarray, lens: dict[str, Any]) -> FrameCamera:
    found = None
    try:
        fov, aspect = float(lens["yfov"]), float(lens.get("aspectRatio", 1.5))
        width, height = round(SIDE_PX * min(aspect, 1)), round(SIDE_PX / max(aspect, 1))
        focal = height / 2 / math.tan(fov / 2)
        # Cameras have the scale of what they are parented to.
        pose = matrix.copy()
        pose[:3, :3] /= np.linalg.norm(pose[:3, :3], axis=0)
        center = focal, focal, width / 2, height / 2
        found = checked_camera(torch.from_numpy(pose * OPENGL_FLIP), center, width, height)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        pass
    if found is None:
        raise InputError(
            f"{path}: camera {name} is invalid; expected yfov, aspectRatio and a rotation"
        )
    return FrameCamera(found.viewmats[0], found.Ks[0], found.width, found.height)


def _channels(document: Document) -> list[Channel]:
    """Return (node, property, times [k], values [k c], interpolation) of the animations."""
    found = []
    for animation in objects(document.json.get("animations")):
        samplers = objects(animation.get("samplers"))
        for channel in objects(animation.get("channels")):
            target, index = object_of(channel, "target"), channel.get("sampler")
            kind = str(target.get("path"))
            if kind not in WIDTHS:
                continue
            if not isinstance(index, int) or not 0 <= index < len(samplers):
                raise document.damaged(f"no sampler {shortened(index)} in an animation")
            sampler = samplers[index]
            times = document.accessor(sampler, "input", 1)[:, 0].astype(np.float64)
            values = document.accessor(sampler, "output", WIDTHS[kind]).astype(np.float64)
            mode = str(sampler.get("interpolation", "LINEAR"))
            expected = len(times) * (3 if mode == "CUBICSPLINE" else 1)
            ordered = len(times) > 0 and bool((np.diff(times) > 0).all())
            finite = np.isfinite(times).all() and np.isfinite(values).all()
            if len(values) != expected or not ordered or not finite:
                raise document.damaged("an animation has invalid keyframes")
            if isinstance(target.get("node"), int):
                found.append((target["node"], kind, times, values, mode))
    return found


def _times(path: Path, channels: list[Channel]) -> list[float]:
    """Return the times of the frames of the animations; none if there are no animations."""
    if not channels:
        return []
    keys = [times for _, _, times, _, _ in channels]
    times = np.unique(np.concatenate(keys))
    steps = np.diff(times)
    steps = steps[steps > 0.5 / MAX_RATE]
    if len(steps) == 0:
        return [float(times[0])]
    count = round(float((times[-1] - times[0]) / max(float(steps.min()), 1 / MAX_RATE)))
    if count >= MAX_FRAMES:
        raise InputError(
            f"{path}: its animation has {count + 1:,} frames, expected at most "
            f"{MAX_FRAMES:,}; export a shorter one"
        )
    return [float(time) for time in np.linspace(times[0], times[-1], count + 1)]


def _changes(channels: list[Channel], time: float) -> dict[int, dict[str, Any]]:
    """Return the properties of nodes that the animations change, at a time, by index."""
    found: dict[int, dict[str, Any]] = {}
    for index, kind, times, values, mode in channels:
        value = _value(times, values, mode, time, kind == "rotation")
        found.setdefault(index, {})[kind] = value.tolist()
    return found


def _value(
    times: np.ndarray, values: np.ndarray, mode: str, time: float, is_rotation: bool
) -> np.ndarray:
    """Interpolate between two keyframes as glTF 2.0 says (appendix C)."""
    after = int(np.searchsorted(times, time, side="right"))
    first, second = max(after - 1, 0), min(after, len(times) - 1)
    if mode == "CUBICSPLINE":
        tangent_in, points, tangent_out = (values[part::3] for part in range(3))
    else:
        points = values
    span = times[second] - times[first]
    t = 0.0 if span == 0 else float(np.clip((time - times[first]) / span, 0, 1))
    if mode == "STEP" or span == 0:
        return np.asarray(points[first])
    a, b = points[first], points[second]
    if mode == "CUBICSPLINE":
        out, into = span * tangent_out[first], span * tangent_in[second]
        value = (
            (2 * t**3 - 3 * t**2 + 1) * a
            + (t**3 - 2 * t**2 + t) * out
            + (3 * t**2 - 2 * t**3) * b
            + (t**3 - t**2) * into
        )
    elif is_rotation:
        pair = torch.from_numpy(np.stack([a, b]))
        value = slerp(pair[0], pair[1], pair.new_tensor([t])).numpy()
    else:
        value = (1 - t) * a + t * b
    return np.asarray(value / np.linalg.norm(value) if is_rotation else value)
