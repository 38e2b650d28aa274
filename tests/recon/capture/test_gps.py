"""GPS positions of photos: reading, metres, and the frame that fits cameras."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recon.capture.gps import Geodetic, gps_frame, gps_position, local_metres, similarity
from recon.capture.types import Frame, FrameCamera
from recon.errors import InputError, ReconWarning

ORIGIN: Geodetic = (48.137, 11.575, 520.0)
# Metres of a degree of latitude and longitude there (WGS 84).
NORTH_M, EAST_M = 111_202.0, 74_450.0


def write_photo(path: Path, position: Geodetic | None) -> None:
    image, exif = Image.new("RGB", (32, 24)), Image.Exif()
    if position is not None:
        directory = exif.get_ifd(0x8825)
        for tag, ref, value, letters in ((2, 1, position[0], "NS"), (4, 3, position[1], "EW")):
            degrees, rest = divmod(abs(value), 1)
            minutes, rest = divmod(60 * rest, 1)
            directory[ref] = letters[int(value < 0)]
            directory[tag] = (float(degrees), float(minutes), round(60 * float(rest), 6))
        directory[5], directory[6] = bytes([int(position[2] < 0)]), float(abs(position[2]))
    image.save(path, exif=exif)


def photos(folder: Path, metres: np.ndarray, cameras: np.ndarray) -> list[Frame]:
    """Write photos at positions east, north and up of the origin, with cameras elsewhere."""
    frames = []
    for index, (metre, center) in enumerate(zip(metres, cameras, strict=True)):
        path = folder / f"{index}.jpg"
        write_photo(path, (ORIGIN[0] + metre[1] / NORTH_M, ORIGIN[1] + metre[0] / EAST_M,
                           ORIGIN[2] + metre[2]))  # fmt: skip
        viewmat = torch.eye(4, dtype=torch.float64)
        viewmat[:3, 3] = -torch.from_numpy(center)
        frames.append(Frame(path.name, path, FrameCamera(viewmat, torch.eye(3).double(), 32, 24)))
    return frames


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return np.asarray(q * np.sign(np.linalg.det(q)))


METRES = np.random.default_rng(0).uniform([-30, -20, 0], [30, 20, 15], (12, 3))


@pytest.mark.parametrize(
    "position", [(48.137, 11.575, 520.25), (-33.8568, -151.2153, -4.5), (0.0001, 0.0001, 0.0)]
)
def test_positions_are_read(tmp_path: Path, position: Geodetic) -> None:
    write_photo(tmp_path / "a.jpg", position)
    found = gps_position(tmp_path / "a.jpg")
    assert found is not None
    assert np.abs(np.array(found) - position).max() < 1e-6


@pytest.mark.parametrize("position", [None, (0.0, 0.0, 0.0)])
def test_photos_without_a_fix_have_none(tmp_path: Path, position: Geodetic | None) -> None:
    write_photo(tmp_path / "a.jpg", position)
    assert gps_position(tmp_path / "a.jpg") is None


def test_metres_of_a_degree() -> None:
    there = np.array([[48.138, 11.575, 520.0], [48.137, 11.576, 520.0], [48.137, 11.575, 530.0]])
    found = local_metres(there, ORIGIN)
    assert np.abs(found - [[0, 111.202, 0], [74.45, 0, 0], [0, 0, 10]]).max() < 0.02


def test_cameras_get_metres_and_axes(tmp_path: Path) -> None:
    rotated = rotation(1)
    frames = photos(tmp_path, METRES, METRES @ rotated / 7.5 + [3, 1, 2])
    found = gps_frame(frames)
    assert found is not None
    assert float(found.transform.scale) == pytest.approx(7.5, rel=1e-3)
    assert np.abs(found.transform.rotmat.numpy() - rotated).max() < 1e-3
    assert found.residual_m < 0.01
    assert found.origin == pytest.approx(ORIGIN, abs=15)


def test_noise_and_wrong_positions_matter_little(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    measured = METRES + rng.normal(0, 0.5, METRES.shape)
    measured[[2, 7]] += [[200, 0, 0], [0, -150, 60]]
    frames = photos(tmp_path, measured, METRES @ rotation(1) / 7.5)
    found = gps_frame(frames)
    assert found is not None
    assert float(found.transform.scale) == pytest.approx(7.5, rel=0.03)
    error = found.transform.rotmat.numpy() @ rotation(1).T
    assert np.rad2deg(np.arccos((np.trace(error) - 1) / 2)) < 3


def test_positions_that_disagree_are_left(tmp_path: Path) -> None:
    frames = photos(tmp_path, METRES, np.random.default_rng(3).standard_normal(METRES.shape))
    with pytest.warns(ReconWarning, match="not used: they are .* m from the cameras"):
        assert gps_frame(frames) is None


def test_positions_in_a_line_are_left(tmp_path: Path) -> None:
    line = np.linspace(0, 50, 8)[:, None] * [1, 0.3, 0] + np.random.default_rng(0).normal(
        0, 0.05, (8, 3)
    )
    frames = photos(tmp_path, line, line @ rotation(1) / 7.5)
    with pytest.warns(ReconWarning, match="all in one line"):
        assert gps_frame(frames) is None


def test_two_photos_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 of 2 photos have a GPS position"):
        gps_frame(photos(tmp_path, METRES[:2], METRES[:2]))


def test_a_similarity_never_mirrors() -> None:
    flat = np.random.default_rng(4).standard_normal((6, 3)) * [1, 1, 0]
    found, weights = similarity(flat, 2 * flat @ rotation(5).T + 1)
    assert float(torch.linalg.det(found.rotmat)) == pytest.approx(1)
    assert float(found.scale) == pytest.approx(2) and weights.sum() == pytest.approx(1)
