"""Scaling, masks, undistortion and depth bounds of loaded views."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from capture_files import shots, write_transforms_capture
from PIL import Image

from recon.capture import Frame, FrameCamera, load_capture, load_views, select_spread
from recon.capture.frame_views import packed_views
from recon.capture.types import Capture
from recon.errors import ReconWarning

# Half of the distance of two of the 256 levels of a photo.
LEVEL = 0.51 / 255


def frame_of(path: Path, camera: FrameCamera | None = None, **more) -> Frame:
    """Return a frame of a stored image, with a pinhole camera unless one is given."""
    width, height = Image.open(path).size
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]).double()
    camera = camera or FrameCamera(torch.eye(4).double(), K, width, height)
    return Frame(path.name, path, camera, **more)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(path)
    return path


def test_never_enlarged_and_float32(tmp_path: Path):
    path = save(tmp_path / "a.png", np.full((30, 40, 3), 0.6))
    views = load_views([frame_of(path)], 512)
    assert views.images.shape == (1, 3, 30, 40)
    assert views.images.dtype == views.cameras.Ks.dtype == views.cameras.viewmats.dtype
    assert views.images.dtype == torch.float32
    assert views.names == ("a.png",)
    torch.testing.assert_close(views.images, torch.full_like(views.images, 0.6))


def test_photos_are_packed(tmp_path: Path):
    """Photos take 3 bytes a pixel, more only where a photo is smaller than others or masked."""
    grey = np.full((16, 24, 3), 100 / 255)
    frames = [frame_of(save(tmp_path / f"{i}.png", grey)) for i in range(2)]
    packed = packed_views(frames, 24)
    assert packed.colors.dtype == torch.uint8
    assert packed.masks is None
    assert packed.valid is None
    view = packed[1]
    torch.testing.assert_close(view.images, torch.full((3, 16, 24), 100 / 255))
    assert view.masks.shape == view.valid.shape == (1, 16, 24)
    assert packed[:].masks.min() == 1
    assert packed[[0, 1]] == packed[:]
    frames += [frame_of(save(tmp_path / "small.png", grey[:8, :12]))]
    padded = packed_views(frames, 24)
    assert padded.masks is padded.valid
    inside = torch.zeros(1, 16, 24)
    inside[:, :8, :12] = 1
    torch.testing.assert_close(padded[2].valid, inside)
    torch.testing.assert_close(padded[2].images, inside.expand(3, -1, -1) * 100 / 255)
    assert padded[0].valid.min() == 1


def test_shrinking_averages(tmp_path: Path):
    """Stripes of one pixel become grey without moire."""
    stripes = np.zeros((64, 64, 3))
    stripes[:, ::2] = 1
    views = load_views([frame_of(save(tmp_path / "a.png", stripes))], 16)
    torch.testing.assert_close(views.images, torch.full((1, 3, 16, 16), 0.5), atol=LEVEL, rtol=0)


def test_hidden_colours_do_not_bleed(tmp_path: Path):
    """A grey object over transparent red: the edges stay grey, premultiplied."""
    pixels = np.zeros((32, 32, 4))
    pixels[..., 0] = 1
    pixels[:, :13] = 0.6
    pixels[:, :13, 3] = 1
    views = load_views([frame_of(save(tmp_path / "a.png", pixels))], 8)
    coverage = torch.tensor([1, 1, 1, 0.25, 0, 0, 0, 0]).expand(1, 1, 8, 8)
    torch.testing.assert_close(views.masks, coverage, atol=LEVEL, rtol=0)
    expected = 0.6 * coverage.expand(1, 3, 8, 8)
    torch.testing.assert_close(views.images, expected, atol=LEVEL, rtol=0)
    assert views.valid.min() == 1


def test_exif_orientation_is_left_alone(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert load_views([frame_of(tmp_path / "a.jpg")], 40).images.shape == (1, 3, 20, 40)


def ray_of_photo(distorted: np.ndarray, model: str, coefficients: tuple) -> np.ndarray:
    """Undistort x / z and y / z by fixed-point iteration of OpenCV's model."""
    rays, zero = distorted.copy(), np.zeros(3)
    project = cv2.fisheye.projectPoints if model == "fisheye" else cv2.projectPoints
    for _ in range(60):
        points = np.concatenate([rays, np.ones_like(rays[:, :1])], 1)[:, None]
        seen, _ = project(points, zero, zero, np.eye(3), np.array(coefficients))
        rays += distorted - seen.reshape(-1, 2)
    return rays


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("opencv", (-0.2, 0.05, 0.001, -0.002, 0.0, 0.0, 0.0, 0.0)),
        ("opencv", (0.1, 0.02, 0.0, 0.0, 0.01, 0.2, 0.0, 0.0)),
        ("fisheye", (-0.05, 0.01, 0.0, 0.0)),
    ],
)
def test_chequer_is_straightened(tmp_path: Path, model, coefficients):
    """A smooth chequerboard seen through the lens is undistorted to the original."""
    width, height = 240, 180
    K = np.array([[170.0, 0, 126], [0, 172.0, 84], [0, 0, 1]])

    def scene(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 0.5 + 0.45 * np.sin(30 * x) * np.sin(30 * y)

    v, u = np.mgrid[:height, :width] + 0.5
    plain = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]], -1).reshape(-1, 2)
    photo = scene(*ray_of_photo(plain, model, coefficients).T).reshape(height, width)
    path = save(tmp_path / "a.png", np.repeat(photo[..., None], 3, -1))
    camera = FrameCamera(
        torch.eye(4).double(), torch.from_numpy(K), width, height, model, coefficients
    )
    views = load_views([frame_of(path, camera)], width)
    expected = scene((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    inner = views.valid[0, 0].bool()
    assert inner[20:-20, 20:-20].all()
    error = (views.images[0, 0] - torch.from_numpy(expected)).abs()[20:-20, 20:-20]
    assert error.max() < 0.008
    assert np.abs(photo - expected)[20:-20, 20:-20].max() > 0.1
    assert (views.masks == views.valid).all()
    assert views.images[0, :, ~inner].abs().sum() == 0
    np.testing.assert_allclose(views.cameras.Ks[0], K, rtol=1e-6)


def test_non_monotonic_distortion_is_masked(tmp_path: Path):
    """r - r^3 / 3 peaks at r = 1: pixels further out would repeat the inside."""
    path = save(tmp_path / "a.png", np.ones((100, 100, 3)))
    K = torch.tensor([[30.0, 0, 50], [0, 30, 50], [0, 0, 1]]).double()
    coefficients = (-1 / 3, *(0.0,) * 7)
    camera = FrameCamera(torch.eye(4).double(), K, 100, 100, "opencv", coefficients)
    valid = load_views([frame_of(path, camera)], 100).valid[0, 0]
    y, x = torch.meshgrid(torch.arange(100) - 49.5, torch.arange(100) - 49.5, indexing="ij")
    radius = torch.hypot(x, y) / 30
    assert valid[radius < 0.98].min() == 1
    assert valid[radius > 1.02].max() == 0


@pytest.mark.parametrize(
    ("model", "k1", "message"),
    [
        (
            "OPENCV",
            -0.5,
            "of 1 of 3 photos cannot be inverted over the whole image, of which [789]",
        ),
        ("OPENCV", 0.6, "of 1 of 3 photos cannot be inverted over the whole image"),
        ("OPENCV", -9.0, "left out 1 of 3 photos, .*cannot be inverted: only"),
        ("OPENCV", 50.0, "left out 1 of 3 photos, .*cannot be inverted: only"),
        ("OPENCV_FISHEYE", -0.8, "of 1 of 3 photos cannot be inverted over the whole image"),
        ("OPENCV", -0.1, ""),
        ("OPENCV", 0.1, ""),
        ("OPENCV_FISHEYE", -0.05, ""),
    ],
)
def test_distortions_that_fold(tmp_path: Path, recwarn, model: str, k1: float, message: str):
    path = write_transforms_capture(tmp_path, shots(centered=True))
    document = json.loads(path.read_text())
    document["frames"][1].update(camera_model=model, k1=k1, fl_x=110.0, fl_y=110.0)
    path.write_text(json.dumps(document))
    capture = load_capture(tmp_path)
    assert len(capture.frames) == (2 if "left out" in message else 3)
    told = [str(warning.message) for warning in recwarn]
    assert len(told) == bool(message) and re.search(message, "".join(told))


def test_depth_bounds(tmp_path: Path):
    """Bounds are used only if every frame has them; sparse points are not used."""
    path = save(tmp_path / "a.png", np.ones((10, 10, 3)))
    points = torch.rand(101, 3).double() + 2
    stated = frame_of(path, depth_bounds=(1.0, 7.0), points=points)
    bounds = load_views([stated, stated], 10).depth_bounds
    torch.testing.assert_close(bounds, torch.tensor([[1.0, 7.0], [1, 7]]))
    assert load_views([frame_of(path, points=points), stated], 10).depth_bounds is None
    assert load_views([frame_of(path, points=points)], 10).depth_bounds is None


def ring(count: int) -> Capture:
    """Return cameras on a circle of radius 3 that look at its centre, in order of the angle."""
    frames = []
    for angle in np.arange(count) * 2 * np.pi / count:
        forward = -np.array([np.cos(angle), np.sin(angle), 0])
        down = np.array([0.0, 0, -1])
        rotmat = np.stack([np.cross(down, forward), down, forward])
        viewmat = torch.eye(4).double()
        viewmat[:3, :3] = torch.from_numpy(rotmat)
        viewmat[:3, 3] = torch.tensor([0.0, 0, 3])
        camera = FrameCamera(viewmat, torch.eye(3).double(), 10, 10)
        frames.append(Frame(str(angle), Path("none.png"), camera))
    return Capture(Path(), "transforms", tuple(frames))


def test_select_spread():
    capture = ring(16)
    chosen = select_spread(capture, 4)
    gaps = np.diff([*chosen, chosen[0] + 16])
    assert gaps.tolist() == [4, 4, 4, 4]
    assert select_spread(capture, 4) == chosen
    assert select_spread(capture, 16) == select_spread(capture, 99) == list(range(16))
    assert len(set(select_spread(capture, 15))) == 15


def test_select_spread_without_cameras():
    frames = tuple(replace(frame, camera=None) for frame in ring(9).frames)
    assert select_spread(Capture(Path(), "images", frames), 3) == [0, 4, 8]


def test_select_spread_of_one_position():
    """Identical cameras still give different frames."""
    frames = (ring(1).frames[0],) * 5
    assert len(set(select_spread(Capture(Path(), "transforms", frames), 3))) == 3


def test_damaged_photos_are_left_out(tmp_path: Path):
    write_transforms_capture(tmp_path, shots(centered=False))
    (tmp_path / "images" / "0.png").write_bytes(b"")
    with pytest.warns(ReconWarning, match=r"images/0\.png"):
        assert len(load_capture(tmp_path).frames) == 2
