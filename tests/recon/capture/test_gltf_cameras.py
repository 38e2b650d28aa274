"""Cameras of glTF files, as Blender exports them."""

import json
import math
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import glb_with_other_values

from recon import InputError
from recon.capture.gltf_cameras import read_gltf_cameras
from render.cameras import look_at

LENS = {"type": "perspective", "perspective": {"yfov": 0.8, "aspectRatio": 1.5, "znear": 0.1}}


def write(path: Path, nodes: list[dict], cameras: list[dict] | None = None,
          channels: tuple[tuple[int, str, list, list, str], ...] = ()) -> None:  # fmt: skip
    """Write a .glb; channels are (node, property, times, values, interpolation)."""
    data, views, accessors, samplers, targets = b"", [], [], [], []

    def add(values: np.ndarray) -> int:
        nonlocal data
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": values.nbytes})
        data += values.tobytes()
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[values.shape[1]]
        accessors.append({"bufferView": len(views) - 1, "componentType": 5126,
                          "count": len(values), "type": kind})  # fmt: skip
        return len(accessors) - 1

    for node, name, times, values, mode in channels:
        pair = add(np.array(times, "<f4")[:, None]), add(np.array(values, "<f4"))
        samplers.append({"input": pair[0], "output": pair[1], "interpolation": mode})
        targets.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": name}})
    document = {
        "asset": {"version": "2.0"}, "nodes": nodes, "cameras": cameras or [LENS],
        "accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": len(data)}],
        "animations": [{"samplers": samplers, "channels": targets}] if channels else [],
    }  # fmt: skip
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    chunk = struct.pack("<I4s", len(data), b"BIN\0") + data if data else b""
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(chunk))
    path.write_bytes(head + struct.pack("<I4s", len(text), b"JSON") + text + chunk)


def center(frame: object) -> np.ndarray:
    viewmat = frame.camera.viewmat  # type: ignore[attr-defined]
    return (-(viewmat[:3, :3].T @ viewmat[:3, 3])).numpy()


def test_camera_of_a_z_up_scene(tmp_path: Path) -> None:
    """Blender writes (x, z, -y): the camera comes back to where it was in its scene."""
    viewmat = look_at(torch.tensor([3.0, -4.0, 2.0]), torch.tensor([0.0, 0.0, 0.5])).double()
    c2w = torch.linalg.inv(viewmat).numpy() * [1, -1, -1, 1]
    to_gltf = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    # A parent that scales, as an object in millimetres does.
    pose = to_gltf @ c2w
    nodes = [
        {"children": [1], "scale": [0.001] * 3},
        {"camera": 0, "name": "Camera", "matrix":
            (np.diag([1000, 1000, 1000, 1]) @ pose).T.ravel().tolist()},
    ]  # fmt: skip
    write(tmp_path / "a.glb", nodes)
    (frame,) = read_gltf_cameras(tmp_path / "a.glb", "+z").frames
    assert frame.name == "Camera.png" and np.allclose(frame.camera.viewmat, viewmat, atol=1e-6)
    assert (frame.camera.width, frame.camera.height) == (1000, 667)
    fov = 2 * math.atan(frame.camera.height / 2 / float(frame.camera.K[1, 1]))
    assert fov == pytest.approx(0.8, abs=1e-6)
    (other,) = read_gltf_cameras(tmp_path / "a.glb", "-y").frames
    assert np.allclose(center(other), (pose[:3, 3]) * [-1, -1, 1], atol=1e-5)


def test_animated_camera_gives_frames(tmp_path: Path) -> None:
    half = math.sqrt(0.5)
    nodes = [
        {"children": [1]},
        {"camera": 0, "name": "Camera", "translation": [0, 0, 5]},
        {"camera": 0, "name": "Still", "translation": [1, 0, 0]},
    ]
    channels = (
        (0, "rotation", [0, 1], [[0, 0, 0, 1], [0, half, 0, half]], "LINEAR"),
        (0, "translation", [0, 0.25, 0.5], [[0, 0, 0], [0, 1, 0], [0, 3, 0]], "STEP"),
    )
    write(tmp_path / "a.glb", nodes, channels=channels)
    frames = {frame.name: frame for frame in read_gltf_cameras(tmp_path / "a.glb", "+y").frames}
    assert sorted(frames) == [*(f"Camera_000{i}.png" for i in range(5)), "Still.png"]
    for i, height in enumerate((0, 1, 3, 3, 3)):
        angle = i / 4 * math.pi / 2
        expected = [5 * math.sin(angle), height, 5 * math.cos(angle)]
        assert np.allclose(center(frames[f"Camera_000{i}.png"]), expected, atol=1e-5)


def test_cubic_splines(tmp_path: Path) -> None:
    """Hermite curves: x = t^3 has these values and tangents at its ends."""
    keys = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [3, 0, 0], [1, 0, 0], [3, 0, 0]]
    nodes = [{"camera": 0}, {"translation": [0, 0, 0]}]
    still = (1, "translation", [0, 0.5, 1], [[0, 0, 0]] * 3, "LINEAR")
    channels = ((0, "translation", [0, 1], keys, "CUBICSPLINE"), still)
    write(tmp_path / "a.glb", nodes, channels=channels)
    frames = read_gltf_cameras(tmp_path / "a.glb", "+y").frames
    assert [round(float(center(frame)[0]), 5) for frame in frames] == [0, 0.125, 1]


def test_files_without_usable_cameras_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.glb", [{"name": "cube"}])
    with pytest.raises(InputError, match="a.glb has no perspective cameras; export it from"):
        read_gltf_cameras(tmp_path / "a.glb", "+z")
    lens = {"type": "perspective", "perspective": {"yfov": "wide"}}
    write(tmp_path / "a.glb", [{"camera": 0, "name": "Camera"}], [lens])
    with pytest.raises(InputError, match="a.glb: camera Camera is invalid"):
        read_gltf_cameras(tmp_path / "a.glb", "+z")
    write(tmp_path / "a.glb", [{"camera": 0}], channels=((0, "translation", [1, 0],
          [[0, 0, 0]] * 2, "LINEAR"),))  # fmt: skip
    with pytest.raises(InputError, match="an animation has invalid keyframes"):
        read_gltf_cameras(tmp_path / "a.glb", "+z")


def test_frames_cost_what_moves_cameras(tmp_path: Path) -> None:
    """Thousands of objects and hundreds of frames are usual in scenes of Blender."""
    count, times = 5000, [frame / 24 for frame in range(250)]
    moves = [[t, 0, 0] for t in times]
    nodes: list[dict] = [{"children": list(range(1, count))}]
    nodes += [{"translation": [1, 0, 0]} for _ in range(count - 2)] + [{"camera": 0, "name": "C"}]
    channels = tuple((node, "translation", times, moves, "LINEAR") for node in (0, 1, 2))
    write(tmp_path / "a.glb", nodes, channels=channels)
    before = time.process_time()
    frames = read_gltf_cameras(tmp_path / "a.glb", "+y").frames
    assert time.process_time() - before < 3
    assert len(frames) == 250 and center(frames[-1])[0] == pytest.approx(times[-1])


def test_values_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    channel = (0, "rotation", [0, 1], [[0, 0, 0, 1], [0, 1, 0, 0]], "LINEAR")
    write(path, [{"children": [1], "scale": [1, 1, 1]}, {"camera": 0, "name": "C"}],
          channels=(channel,))  # fmt: skip
    refused = 0
    for _ in glb_with_other_values(path):
        try:
            read_gltf_cameras(path, "+y")
        except InputError:
            refused += 1
    assert refused > 100
