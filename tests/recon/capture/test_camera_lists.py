"""Cameras and scenes as 3DGS's reference code and nerfstudio's viewer write them."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_gaussians

from recon import ReconError
from recon.capture import Capture, load_capture
from recon.formats import is_scene, open_scene, save_gaussians
from recon.photo_extensions import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS

FLIP = torch.tensor([1.0, -1, -1, 1]).double()


@pytest.fixture(scope="module")
def given(sample: Path) -> Capture:
    return load_capture(sample)


def trained_cameras(given: Capture) -> list[dict[str, Any]]:
    entries = []
    for i, frame in enumerate(given.frames):
        assert frame.camera is not None
        c2w = torch.linalg.inv(frame.camera.viewmat)
        size = {"width": frame.camera.width, "height": frame.camera.height}
        focal = {"fx": float(frame.camera.K[0, 0]), "fy": float(frame.camera.K[1, 1])}
        pose = {"position": c2w[:3, 3].tolist(), "rotation": c2w[:3, :3].tolist()}
        entries.append({"id": i, "img_name": Path(frame.name).stem, **size, **focal, **pose})
    return entries


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_cameras_of_a_trained_scene(given: Capture, tmp_path: Path) -> None:
    path = write(tmp_path / "cameras.json", trained_cameras(given))
    found = load_capture(path, photos=False)
    assert [f.name for f in found.frames] == [Path(f.name).stem for f in given.frames]
    for frame, expected in zip(found.frames, given.frames, strict=True):
        assert frame.camera is not None and expected.camera is not None
        assert torch.allclose(frame.camera.viewmat, expected.camera.viewmat, atol=1e-9)
        assert torch.allclose(frame.camera.K[:2, :2], expected.camera.K[:2, :2])


def test_a_camera_path_of_nerfstudio(given: Capture, tmp_path: Path) -> None:
    cameras = [frame.camera for frame in given.frames if frame.camera is not None]
    poses = [(torch.linalg.inv(camera.viewmat) * FLIP).flatten().tolist() for camera in cameras]
    entries = [{"camera_to_world": pose, "fov": 60.0, "aspect": 1.5} for pose in poses]
    document = {"camera_path": entries, "render_width": 300, "render_height": 200, "fps": 24}
    found = load_capture(write(tmp_path / "camera_path.json", document), photos=False)
    assert [frame.name for frame in found.frames][:2] == ["0000.png", "0001.png"]
    for frame, camera in zip(found.frames, cameras, strict=True):
        assert frame.camera is not None
        assert torch.allclose(frame.camera.viewmat, camera.viewmat, atol=1e-9)
        assert (frame.camera.width, frame.camera.height) == (300, 200)
        assert float(frame.camera.K[1, 1]) == pytest.approx(100 / math.tan(math.radians(30)))


def test_damaged_lists_are_one_line(given: Capture, tmp_path: Path) -> None:
    entries = trained_cameras(given)
    for change in ({"rotation": [1, 2]}, {"position": "x"}):
        document = [entries[0], entries[1] | change]
        with pytest.raises(ReconError, match="camera 1 is incomplete or damaged") as end:
            load_capture(write(tmp_path / "a.json", document), photos=False)
        assert "\n" not in str(end.value)
    for wrong in ([1, 2], [{}], {"camera_path": [{}]}, {"camera_path": [[]], "render_width": 1}):
        with pytest.raises(ReconError) as end:
            load_capture(write(tmp_path / "a.json", wrong), photos=False)
        assert "\n" not in str(end.value)


def test_the_last_scene_of_a_training(tmp_path: Path) -> None:
    for steps in (7000, 30000, 500):
        folder = tmp_path / "point_cloud" / f"iteration_{steps}"
        folder.mkdir(parents=True)
        cloud = random_gaussians(steps // 100, torch.Generator()).to(torch.float32)
        save_gaussians(folder / "point_cloud.ply", cloud)
    assert is_scene(tmp_path)
    with pytest.warns(UserWarning, match="has 3 scenes; that of the last iteration is used"):
        assert open_scene(tmp_path).count == 300
    # A capture that was trained in its own folder stays a capture.
    (tmp_path / "images").mkdir()
    assert not is_scene(tmp_path)


def test_an_archive_of_a_scene_is_named(tmp_path: Path) -> None:
    path = tmp_path / "luma.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("gs/point_cloud.ply", b"ply\n")
    assert is_scene(path)
    with pytest.raises(ReconError, match=r"is an archive; extract its scene \(gs/point_cloud.ply"):
        open_scene(path)
    with pytest.raises(ReconError, match=r"luma\.zip is an archive; .*to reconstruct, pass"):
        load_capture(path)


@pytest.mark.parametrize("extension", [*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS, ".JPG"])
def test_an_archive_with_photos_beside_a_scene_is_a_capture(extension: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scan/points.ply", b"ply\n")
        archive.writestr(f"scan/photos/0{extension}", b"")
    assert not is_scene(path)


def test_textures_and_hidden_files_are_no_photos(tmp_path: Path) -> None:
    path = tmp_path / "scene.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("meta.json", "means_l.webp", "means_u.webp", "sh0.webp"):
            archive.writestr(f"scene/{name}", b"")
        archive.writestr("__MACOSX/scene/._photo.jpg", b"")
    assert is_scene(path)
    with pytest.raises(ReconError, match=r"scene\.zip is damaged: meta\.json"):
        open_scene(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("photos/a.webp", b"")
    assert not is_scene(path)
