"""Scale and gravity from markers in synthetic photos with known cameras."""

from pathlib import Path

import numpy as np
import pytest
import torch
from marker_photos import write_photos

from recon.capture.cameras import transform_frame
from recon.capture.markers import marker_transform, rotation_between
from recon.capture.types import Frame
from recon.errors import InputError, ReconWarning
from render import Sim3

SIDE = 0.2
POSITIONS = [(0.9, -0.9, -0.6), (-0.8, -1.1, -0.7), (0.1, -1.3, -0.9), (0.6, -0.8, 0.9)]


def level(x: float, z: float, side: float = SIDE) -> np.ndarray:
    """Return the corners of a marker on the ground, seen from above (-y)."""
    half = side / 2
    corners = [[-half, 0, half], [half, 0, half], [half, 0, -half], [-half, 0, -half]]
    return np.array(corners) + [x, 0, z]


def upright(side: float = SIDE) -> np.ndarray:
    """Return the corners of a marker on a wall, seen from -z."""
    half = side / 2
    return np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]])


def scaled(frames: list[Frame], factor: float, rotmat: np.ndarray | None = None) -> list[Frame]:
    """Return the frames in a world of another scale, as cameras are solved."""
    rotation = torch.from_numpy(np.eye(3) if rotmat is None else rotmat)
    world = Sim3(torch.tensor(factor).double(), rotation, torch.zeros(3).double())
    return [transform_frame(frame, world) for frame in frames]


@pytest.mark.parametrize(
    "family", ["APRILTAG_36h11", "4X4_50", "5X5_100", "6X6_250", "ARUCO_ORIGINAL"]
)
def test_the_scale_is_right_within_one_percent(tmp_path: Path, family: str) -> None:
    frames = write_photos(tmp_path, [(family, 7, level(0, 0))], POSITIONS)
    found = marker_transform(scaled(frames, 3.7), SIDE, False)
    assert float(found.scale) == pytest.approx(1 / 3.7, rel=0.005)
    assert torch.equal(found.rotmat, torch.eye(3).double())


def test_distortion_is_removed(tmp_path: Path) -> None:
    markers = [("APRILTAG_36h11", 1, level(-0.3, 0.2)), ("APRILTAG_36h11", 2, level(0.3, -0.1))]
    frames = write_photos(tmp_path, markers, POSITIONS, (-0.25, 0.08, 0.0, 0.0))
    assert float(marker_transform(frames, SIDE, False).scale) == pytest.approx(1, rel=0.005)


def test_level_markers_give_the_gravity(tmp_path: Path) -> None:
    frames = write_photos(tmp_path, [("4X4_50", 3, level(0, 0))], POSITIONS)
    tilt = rotation_between(np.array([0.0, 1, 0]), np.array([0.2, 0.96, -0.196]) / 0.99989)
    found = marker_transform(scaled(frames, 2.0, tilt), SIDE, True)
    down = found.rotmat @ torch.from_numpy(tilt) @ torch.tensor([0.0, 1, 0]).double()
    assert float(down[1]) > np.cos(np.deg2rad(0.5))
    assert float(torch.linalg.det(found.rotmat)) == pytest.approx(1)


def test_a_marker_on_a_wall_gives_no_gravity(tmp_path: Path) -> None:
    positions = [(0.4, -0.2, -1.0), (-0.5, -0.1, -1.1), (0.1, -0.5, -1.2)]
    frames = write_photos(tmp_path, [("4X4_50", 3, upright())], positions)
    with pytest.warns(ReconWarning, match="not the gravity"):
        found = marker_transform(frames, SIDE, True)
    assert torch.equal(found.rotmat, torch.eye(3).double())
    assert float(found.scale) == pytest.approx(1, rel=0.005)


def test_a_marker_of_another_size_is_left_out(tmp_path: Path) -> None:
    markers = [("4X4_50", 1, level(-0.4, 0)), ("4X4_50", 2, level(0, 0)),
               ("4X4_50", 3, level(0.4, 0.1, 0.3))]  # fmt: skip
    frames = write_photos(tmp_path, markers, POSITIONS)
    with pytest.warns(ReconWarning, match="another size.*4X4_100 number 3"):
        found = marker_transform(frames, SIDE, False)
    assert float(found.scale) == pytest.approx(1, rel=0.005)


def test_wrong_cameras_are_not_measured(tmp_path: Path) -> None:
    frames = write_photos(tmp_path, [("4X4_50", 3, level(0, 0))], POSITIONS[:2])
    swapped = [
        Frame(a.name, a.image_path, b.camera) for a, b in zip(frames, frames[::-1], strict=True)
    ]
    with pytest.raises(InputError, match="no marker can be measured .found: 4X4_100 number 3"):
        marker_transform(swapped, SIDE, False)


def test_photos_without_markers_are_an_error(tmp_path: Path) -> None:
    frames = write_photos(tmp_path, [], POSITIONS[:2])
    with pytest.raises(InputError, match="no ArUco or AprilTag marker is found"):
        marker_transform(frames, SIDE, False)
