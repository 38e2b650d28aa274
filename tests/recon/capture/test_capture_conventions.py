"""One known scene lands on the same pixels through every layout."""

from pathlib import Path

import numpy as np
import pytest
from capture_files import (
    POINTS,
    Shot,
    shots,
    spot_pixels,
    write_colmap_capture,
    write_llff_capture,
    write_transforms_capture,
)

from recon.capture import load_capture, load_views
from recon.types import Views

OPENCV = (-0.12, 0.03, 0.002, -0.003)
FISHEYE = (0.05, -0.01, 0.003, 0.0)


def off_spots_px(views: Views) -> float:
    """Return the largest distance between the spots in the images and the projected points."""
    projected, _ = views.cameras.project(views.images.new_tensor(POINTS))
    found = np.stack([spot_pixels(image.numpy()) for image in views.images])
    return float(np.abs(projected.numpy() - found).max())


def check(folder: Path, cameras: list[Shot], resolution: int = 160) -> None:
    capture = load_capture(folder)
    assert len(capture.frames) == len(cameras)
    for frame, shot in zip(capture.frames, cameras, strict=True):
        assert frame.camera is not None
        np.testing.assert_allclose(frame.camera.viewmat, shot.viewmat, atol=1e-12)
        np.testing.assert_allclose(frame.camera.K, shot.K, atol=1e-9)
    assert off_spots_px(load_views(capture.frames, resolution)) < 0.05


@pytest.mark.parametrize("resolution", [160, 100])
def test_transforms(tmp_path: Path, resolution: int):
    cameras = shots(centered=False)
    write_transforms_capture(tmp_path, cameras)
    check(tmp_path, cameras, resolution)


def test_colmap(tmp_path: Path):
    pytest.importorskip("pycolmap")
    cameras = shots(centered=False)
    shot = cameras[0]
    write_colmap_capture(tmp_path, cameras, "PINHOLE", [shot.fx, shot.fy, shot.cx, shot.cy])
    check(tmp_path, cameras)


def test_llff(tmp_path: Path):
    cameras = shots(centered=True)
    write_llff_capture(tmp_path, cameras)
    check(tmp_path, cameras)


@pytest.mark.parametrize("resolution", [160, 100])
def test_undistorted_opencv(tmp_path: Path, resolution: int):
    cameras = shots(centered=False, coefficients=OPENCV)
    write_transforms_capture(tmp_path, cameras, "OPENCV")
    check(tmp_path, cameras, resolution)


def test_undistorted_fisheye(tmp_path: Path):
    cameras = shots(centered=False, coefficients=FISHEYE)
    write_transforms_capture(tmp_path, cameras, "OPENCV_FISHEYE")
    check(tmp_path, cameras)


def test_distortion_is_seen_by_these_tests(tmp_path: Path):
    """The same images without undistortion are off by pixels."""
    cameras = shots(centered=False, coefficients=OPENCV)
    path = write_transforms_capture(tmp_path, cameras, "OPENCV")
    path.write_text(path.read_text().replace('"k1"', '"ignored"'))
    assert off_spots_px(load_views(load_capture(tmp_path).frames, 160)) > 0.5


@pytest.mark.parametrize(
    ("model", "coefficients", "params"),
    [
        ("OPENCV", OPENCV, OPENCV),
        ("FULL_OPENCV", OPENCV, (*OPENCV, 0.0, 0.0, 0.0, 0.0)),
        ("OPENCV_FISHEYE", FISHEYE, FISHEYE),
    ],
)
def test_colmap_distortion(
    tmp_path: Path, model: str, coefficients: tuple[float, ...], params: tuple[float, ...]
):
    pytest.importorskip("pycolmap")
    cameras = shots(centered=False, coefficients=coefficients)
    shot = cameras[0]
    given = [shot.fx, shot.fy, shot.cx, shot.cy, *params]
    write_colmap_capture(tmp_path, cameras, model, given)
    check(tmp_path, cameras)


def test_mixed_sizes_keep_their_geometry(tmp_path: Path):
    """Images of two sizes have one size after padding, and K is unchanged."""
    large, _, other = shots(centered=False)
    small = Shot(other.quat, other.translation, 120.0, 121.0, 47.0, 66.0, 100, 130)
    write_transforms_capture(tmp_path, [large, small])
    views = load_views(load_capture(tmp_path).frames, 120)
    assert views.images.shape == (2, 3, 120, 120)
    assert off_spots_px(views) < 0.05
    # 160x120 became 120x90, 100x130 became 92x120: the rest is padding.
    assert views.masks[0, 0, :90].min() == 1 and views.masks[0, 0, 90:].max() == 0
    assert views.valid[1, 0, :, :92].min() == 1 and views.valid[1, 0, :, 92:].max() == 0
