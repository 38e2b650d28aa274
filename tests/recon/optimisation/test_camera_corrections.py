"""Corrections of cameras: wrong ones are found with the scene, right ones are kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import swept

from recon.capture import load_capture, load_views
from recon.cli.main import main
from recon.optimisation.camera_corrections import CameraCorrections
from recon.optimisation.config import CAMERA_LR, OptimiseConfig
from recon.optimisation.loop import optimise
from recon.types import Views
from render import Cameras, Gaussians


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    return load_views(load_capture(sample), 96)


@pytest.fixture(scope="module")
def scene(views: Views) -> Gaussians:
    return swept(views)


def disturbed(cameras: Cameras, angle: float) -> Cameras:
    """Rotate each camera by an angle (radians) about an axis of its own."""
    corrections = CameraCorrections(cameras, torch.zeros(1, 3), 1.0)
    axes = torch.randn(len(cameras), 3, generator=torch.Generator().manual_seed(0))
    for vector, axis in zip(corrections.vectors, axes - axes.mean(0), strict=True):
        vector.data[:3] = angle * torch.nn.functional.normalize(axis, dim=0)
    return corrections.cameras()


def error(found: Cameras, expected: Cameras) -> float:
    """Mean angle between two sets of cameras (radians)."""
    rotated = found.viewmats[:, :3, :3] @ expected.viewmats[:, :3, :3].mT
    cosine = 0.5 * (rotated.diagonal(dim1=1, dim2=2).sum(1) - 1)
    return float(torch.arccos(cosine.clamp(-1, 1)).mean())


def test_wrong_cameras_are_corrected(views: Views, scene: Gaussians) -> None:
    wrong = disturbed(views.cameras, 0.02)
    assert error(wrong, views.cameras) == pytest.approx(0.02, rel=0.01)
    assert torch.allclose(wrong.centers, views.cameras.centers, atol=1e-4)
    config = OptimiseConfig(steps=80, lr_camera=3e-3)
    found = optimise(scene, replace(views, cameras=wrong), config)
    assert found.cameras is not None
    assert error(found.cameras, views.cameras) < 0.6 * error(wrong, views.cameras)
    kept = optimise(scene, replace(views, cameras=wrong), replace(config, lr_camera=0.0))
    assert kept.cameras is None and found.losses[-1] < kept.losses[-1]


def test_right_cameras_are_kept(views: Views, scene: Gaussians) -> None:
    config = OptimiseConfig(steps=20, lr_camera=1e-4)
    assert optimise(scene, views, config).cameras is None
    few = replace(config, lr_camera=1.0)
    assert optimise(scene, views[:4], few).cameras is None


def test_all_cameras_together_do_not_drift(views: Views, scene: Gaussians) -> None:
    """A motion of all cameras cannot be seen, so their mean stays where it was."""
    corrections = CameraCorrections(views.cameras, scene.means, 0.01)
    for vector in corrections.vectors:
        vector.grad = torch.ones(6)
    corrections.step(1.0)
    assert torch.allclose(
        corrections.cameras().centers.mean(0), views.cameras.centers.mean(0), atol=1e-4
    )
    assert error(corrections.cameras(), views.cameras) < 1e-3


def test_corrected_cameras_are_saved(sample: Path, tmp_path: Path) -> None:
    """What --save-cameras writes is where the scene was seen from."""
    given = json.loads((sample / "transforms.json").read_text())
    for frame in given["frames"]:
        frame["file_path"] = str((sample / frame["file_path"]).resolve())
    for frame in given["frames"][::2]:
        frame["transform_matrix"][0][3] += 0.15
    (tmp_path / "transforms.json").write_text(json.dumps(given))
    saved = tmp_path / "out.json"
    options = ["--resolution", "96", "--model", "plane-sweep", "--refine", "30", "--quiet"]
    scene = str(tmp_path / "s.ply")
    for flags, same in (([], True), (["--refine-cameras"], False)):
        main(
            [str(tmp_path), "-o", scene, "--save-cameras", str(saved), "--force", *options, *flags]
        )
        cameras = load_capture(saved).frames
        before = load_capture(tmp_path).frames
        moved = [
            float((a.camera.viewmat - b.camera.viewmat).abs().max())  # type: ignore[union-attr]
            for a, b in zip(cameras, before, strict=True)
        ]
        assert (max(moved) < 1e-4) is same, moved
    assert CAMERA_LR > 0
