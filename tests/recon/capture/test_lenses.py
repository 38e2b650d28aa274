"""Camera models of COLMAP that are converted to pinhole photos, and panoramas."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from capture_files import POINTS, Shot, shots, spot_pixels, write_colmap_capture
from PIL import Image

from recon.capture import load_capture, load_views
from recon.capture.types import Capture
from recon.errors import ReconWarning

pytest.importorskip("pycolmap")

CENTER = (150.0, 154.0, 87.0, 55.0)


def fov(x: np.ndarray, y: np.ndarray, omega: float) -> np.ndarray:
    """Distort as Devernay and Faugeras 2001."""
    r = np.hypot(x, y)
    factor = np.arctan(2 * r * np.tan(omega / 2)) / (r * omega)
    return np.stack([x * factor, y * factor], -1)


def division(x: np.ndarray, y: np.ndarray, k: float) -> np.ndarray:
    """Distort as Fitzgibbon 2001: an undistorted radius is r / (1 + k r^2)."""
    r = np.hypot(x, y)
    factor = 2 / (1 + np.sqrt(1 - 4 * k * r * r))
    return np.stack([x * factor, y * factor], -1)


def thin_prism_fisheye(x: np.ndarray, y: np.ndarray, k1: float, s: float) -> np.ndarray:
    """Distort an equidistant fisheye by one radial term and a thin prism in x."""
    r = np.hypot(x, y)
    u, v = x * np.arctan(r) / r, y * np.arctan(r) / r
    square = u * u + v * v
    return np.stack([u * (1 + k1 * square) + s * square, v * (1 + k1 * square)], -1)


MODELS = {
    "FOV": ([*CENTER, 0.9], lambda x, y: fov(x, y, 0.9)),
    "DIVISION": ([*CENTER, -0.8], lambda x, y: division(x, y, -0.8)),
    "THIN_PRISM_FISHEYE": (
        [*CENTER, -0.5, 0, 0, 0, 0, 0, 0.2, 0],
        lambda x, y: thin_prism_fisheye(x, y, -0.5, 0.2),
    ),
}


def write_spots(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    """Write an image with a spot in each colour channel."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    spots = [np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8) for u, v in pixels]
    image = (np.stack(spots, -1) * 255).round().astype(np.uint8)
    Image.fromarray(image).save(path)


def local_points(shot: Shot) -> np.ndarray:
    return POINTS @ shot.viewmat[:3, :3].T + shot.viewmat[:3, 3]


def projected(capture: Capture, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the points are in a loaded view, and where its camera projects them."""
    views = load_views([capture.frames[index]], 512)
    viewmat, K = views.cameras.viewmats[0].double().numpy(), views.cameras.Ks[0].double().numpy()
    image = (POINTS @ viewmat[:3, :3].T + viewmat[:3, 3]) @ K.T
    # Without the faint traces of JPEG.
    return spot_pixels((views.images[0].numpy() - 0.3).clip(0)), image[:, :2] / image[:, 2:]


@pytest.mark.parametrize("name", MODELS)
def test_models_become_pinhole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path / "cache"))
    params, distort = MODELS[name]
    cameras = shots(centered=False, count=2)
    folder = tmp_path / "capture"
    write_colmap_capture(folder, cameras, name, [float(value) for value in params])
    for i, shot in enumerate(cameras):
        local = local_points(shot)
        image = distort(local[:, 0] / local[:, 2], local[:, 1] / local[:, 2])
        pixels = image * CENTER[:2] + CENTER[2:]
        write_spots(folder / "images" / f"{i}.png", pixels, (shot.width, shot.height))
    with pytest.warns(ReconWarning, match=f"resampled to those of pinhole cameras: 2 of {name}"):
        capture = load_capture(folder)
    found, expected = projected(capture, 1)
    np.testing.assert_allclose(found, expected, atol=0.1)
    straight = (local_points(cameras[1]) @ cameras[1].K.T)[:, :2] / local_points(cameras[1])[:, 2:]
    assert np.abs(pixels - straight).max() > 0.3


def test_panorama_becomes_a_cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path / "cache"))
    cameras = shots(centered=False, count=1)
    folder = tmp_path / "capture"
    write_colmap_capture(folder, cameras, "EQUIRECTANGULAR", [480.0, 240.0])
    text = (folder / "sparse/0/cameras.txt").read_text().replace(" 160 120 ", " 480 240 ")
    (folder / "sparse/0/cameras.txt").write_text(text)
    x, y, z = local_points(cameras[0]).T
    pixels = np.stack(
        [
            480 * (0.5 + np.arctan2(x, z) / (2 * np.pi)),
            240 * (0.5 + np.arctan2(y, np.hypot(x, z)) / np.pi),
        ],
        -1,
    )
    write_spots(folder / "images" / "0.png", pixels, (480, 240))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReconWarning)
        capture = load_capture(folder)
    assert [frame.name for frame in capture.frames] == [
        f"images/0_{face}.png" for face in ("front", "right", "back", "left", "up", "down")
    ]
    found, expected = projected(capture, 0)
    np.testing.assert_allclose(found, expected, atol=0.2)
    # The six cameras look to all sides, and what is ahead is seen in front only.
    views = load_views(capture.frames, 120)
    np.testing.assert_allclose(views.cameras.viewmats[:, 2, :3].sum(0), 0, atol=1e-6)
    assert views.images[0].max() > 0.5 and views.images[1:].max() < 0.1
