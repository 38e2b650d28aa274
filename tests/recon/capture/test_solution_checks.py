"""Solved cameras that are wrong are refused or told; photos that do not fit are named."""

import json
import shutil
import sqlite3
import time
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import quad_scenes as scenes
from PIL import Image

from recon import ReconError
from recon.capture import load_capture
from recon.capture.isolated import run_script
from recon.capture.isolated import sfm_checks as checks
from recon.capture.sfm import PosedCapture, SolveConfig, solve_cameras
from recon.capture.sfm.outcome import Outcome
from recon.capture.sfm.prepare import prepare_images
from recon.capture.sfm.stages import make_job
from recon.errors import ReconWarning

pytest.importorskip("pycolmap", reason="needs the extra sfm")
SIFT = SolveConfig(use_cache=False, matcher="sift")


def solve(folder: Path) -> tuple[PosedCapture, list[str]]:
    """Return the solved cameras, and all warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        posed = solve_cameras(load_capture(folder), SIFT, lambda stage, done: None)
    return posed, [str(w.message) for w in told if issubclass(w.category, ReconWarning)]


def rotations(posed: PosedCapture) -> np.ndarray:
    return np.stack([f.camera.viewmat[:3, :3].numpy() for f in posed.capture.frames if f.camera])


def angle_deg(rotation: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def test_rotation_without_parallax_is_one_line(tmp_path: Path) -> None:
    """COLMAP solves these photos, with a wrong focal length and cameras on an arc."""
    quads = scenes.boxes(0) + scenes.room(1)
    ahead = scenes.orbit(np.zeros(1))[0]
    views = []
    for degrees in (0.0, 8.0, 16.0):
        rotated = np.eye(4)
        rotated[:3, :3] = scenes.rotation_y(-degrees)
        views.append(scenes.photo(quads, rotated @ ahead))
    scenes.save(tmp_path, views)
    with pytest.raises(ReconError, match="no parallax, the camera rotated or stood still") as end:
        solve(tmp_path)
    assert "\n" not in str(end.value)


def test_photos_without_detail_are_one_line(tmp_path: Path) -> None:
    """No learned matching is tried, which takes minutes."""
    ramps = [np.linspace(40 * i, 80 + 40 * i, 320)[None, :, None] for i in range(3)]
    scenes.save(tmp_path, [np.broadcast_to(r, (240, 320, 3)).astype(np.uint8) for r in ramps])
    with pytest.raises(ReconError, match="no detail to match in them"):
        solve_cameras(load_capture(tmp_path), SolveConfig(use_cache=False), lambda *_: None)


def test_features_on_what_masks_leave_out_are_ignored(tmp_path: Path) -> None:
    """So are those on transparent pixels; a photo without a mask is used whole."""
    view = scenes.photo(scenes.boxes(0) + scenes.room(1), scenes.orbit(np.zeros(1))[0])
    left = np.zeros(view.shape[:2], np.uint8)
    left[:, :160] = 255
    scenes.save(tmp_path, [view, view])
    clear = np.concatenate([view, np.rot90(left, 2)[..., None]], 2)
    Image.fromarray(clear).save(tmp_path / "002.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(left).save(tmp_path / "masks" / "000.png")
    capture, work = load_capture(tmp_path), tmp_path / "work"
    (work / "images").mkdir(parents=True)
    prepared = prepare_images(capture.frames, work / "images")
    assert prepared.masks is not None
    (work / "job.json").write_text(json.dumps(make_job(prepared, work, 0)))
    assert run_script("sfm_matching.py", ["features", str(work / "job.json")], 60.0) is None
    with closing(sqlite3.connect(work / "database.db")) as database:
        rows = database.execute("SELECT rows, cols, data FROM keypoints ORDER BY image_id")
        x = [np.frombuffer(data, np.float32).reshape(n, c)[:, 0] for n, c, data in rows]
    assert min(map(len, x)) > 50
    assert x[0].max() < 161 and x[2].min() > 159
    assert x[1].min() < 100 and x[1].max() > 220


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_an_object_on_a_turntable(masked: bool, tmp_path: Path) -> None:
    """Its background stands still, and would outvote the object; masks leave it out."""
    background, camera = scenes.room(1), scenes.orbit(np.zeros(1))[0]
    rotated = [[q.moved(scenes.rotation_y(15.0 * i)) for q in scenes.boxes(0)] for i in range(6)]
    scenes.save(tmp_path, [scenes.photo(quads + background, camera) for quads in rotated])
    if masked:
        white = [
            [replace(q, texture=np.full((9, 9, 3), 255.0)) for q in quads] for quads in rotated
        ]
        shapes = [scenes.photo(quads, camera) > 200 for quads in white]
        masks = [np.where(shape, 255, 0).astype(np.uint8) for shape in shapes]
        scenes.save(tmp_path / "masks", masks)
    posed, told = solve(tmp_path)
    assert len(posed.capture.frames) >= 5
    found = rotations(posed)
    for i in range(len(found) - 1):
        assert angle_deg(found[i] @ found[i + 1].T) == pytest.approx(15.0, abs=1.5)
    assert any("does not move with the object" in line for line in told) != masked


@pytest.mark.slow
def test_a_folder_of_everything(tmp_path: Path) -> None:
    """Two scenes, another camera, a rotated photo, a copy and junk, in random order."""
    quads, other = scenes.boxes(0) + scenes.room(1), scenes.boxes(5) + scenes.room(6)
    cameras = scenes.orbit(np.arange(7) * 15.0)
    views = [scenes.photo(quads, camera) for camera in cameras]
    views[2] = np.rot90(views[2])
    views[4] = scenes.photo(quads, cameras[4], 400.0, (360, 360))
    strangers = [scenes.photo(other, camera) for camera in scenes.orbit(np.array([0.0, 15.0]))]
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    order = np.random.default_rng(1).permutation(10)
    every = [*views, *strangers, noise]
    scenes.save(tmp_path, [every[i] for i in order])
    shutil.copy(tmp_path / "000.png", tmp_path / "copy.png")
    posed, told = solve(tmp_path)
    names = {f"{position:03d}.png": int(index) for position, index in enumerate(order)}
    kept = [names[frame.name] for frame in posed.capture.frames]
    assert sorted(kept) == list(range(7))
    found = rotations(posed)
    true = np.stack([cameras[i][:3, :3] for i in kept])
    # The rotated photo is rotated in the image plane.
    quarter = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    true[kept.index(2)] = quarter @ true[kept.index(2)]
    for a in range(7):
        for b in range(a):
            assert angle_deg((found[a] @ found[b].T) @ (true[a] @ true[b].T).T) < 1.0
    # Every photo is solved or named.
    assert sorted(posed.unregistered) == sorted(
        [n for n, i in names.items() if i > 6] + ["copy.png"]
    )
    text = "\n".join(told)
    assert all(name in text for name in posed.unregistered)
    assert "copies of others: copy.png" in text


def random_pair(rng: np.random.Generator, translation: np.ndarray) -> checks.Pair:
    """Return matches of 300 points between two cameras that differ by a rotation as well."""
    points = rng.uniform([-2, -1.5, 3], [2, 1.5, 8], (300, 3))
    rotation = scenes.rotation_y(6.0)
    pixels = []
    for local in (points, points @ rotation.T + translation):
        pixels.append(500 * local[:, :2] / local[:, 2:] + [320, 240] + rng.normal(0, 0.2, (300, 2)))
    return checks.Pair((1, 2), pixels[0], pixels[1])


def test_rotation_alone_is_told_from_parallax() -> None:
    rng = np.random.default_rng(0)
    camera = SimpleNamespace(width=640, height=480, params=[0.0], has_prior_focal_length=False)
    cameras = {1: camera, 2: camera}
    still, moved = (random_pair(rng, np.array([x, 0, 0])) for x in (0.0, 0.15))
    assert checks.only_rotated([still, still], cameras)
    assert not checks.only_rotated([moved, moved], cameras)
    assert not checks.only_rotated([still, moved], cameras)
    assert not checks.only_rotated([], cameras)


class Pose:
    """What the checks use of pycolmap.Rigid3d."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self.rotation = SimpleNamespace(matrix=lambda: matrix[:3, :3])
        self.translation = matrix[:3, 3]

    def __mul__(self, other: "Pose") -> "Pose":
        return Pose(self.matrix @ other.matrix)

    def inverse(self) -> "Pose":
        return Pose(np.linalg.inv(self.matrix))


def solution(viewmats: list[np.ndarray]) -> SimpleNamespace:
    """Return what the checks use of pycolmap.Reconstruction."""
    camera = SimpleNamespace(
        cam_from_img=lambda pixels: (pixels - [320, 240]) / 500, mean_focal_length=lambda: 500.0
    )
    images = {
        i: SimpleNamespace(name=f"{i}.jpg", camera_id=1, cam_from_world=lambda m=m: Pose(m))
        for i, m in enumerate(viewmats, 1)
    }
    return SimpleNamespace(images=images, cameras={1: camera}, reg_image_ids=lambda: list(images))


def test_left_out_matches_contradict_a_wrong_camera() -> None:
    points = np.random.default_rng(0).uniform([-2, -1.5, -2], [2, 1.5, 2], (200, 3))
    viewmats = scenes.orbit(np.arange(4) * 20.0)
    pixels = []
    for viewmat in viewmats:
        local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
        pixels.append(500 * local[:, :2] / local[:, 2:] + [320, 240])
    pairs = [
        checks.Pair((a + 1, b + 1), pixels[a], pixels[b]) for a in range(4) for b in range(a + 1, 4)
    ]
    assert set(checks.photo_agreement(solution(viewmats), pairs).values()) == {1.0}
    wrong = [*viewmats[:3], scenes.orbit(np.array([77.0]))[0]]
    agreement = checks.photo_agreement(solution(wrong), pairs)
    assert agreement[4] < checks.MIN_AGREEMENT < min(agreement[i] for i in (1, 2, 3))
    assert checks.certain_photos(solution(viewmats), pairs) == {f"{i}.jpg" for i in range(1, 5)}
    assert checks.certain_photos(solution(wrong), pairs) == {"1.jpg", "2.jpg", "3.jpg"}
    two = [pair for pair in pairs if pair.ids == (1, 4)]
    assert checks.certain_photos(solution(wrong), two) == {"2.jpg", "3.jpg"}


def test_the_worst_photos_are_uncertain_and_not_those_they_contradict() -> None:
    """Matches of a round tower: 1 to 4 are right, and 5 to 7 show other sides of it."""
    counts = {
        (1, 2): (408, 408), (1, 3): (394, 394), (1, 4): (740, 738), (2, 3): (704, 703),
        (2, 4): (245, 244), (3, 4): (148, 148), (1, 5): (185, 113), (2, 5): (341, 99),
        (3, 5): (192, 10), (4, 5): (99, 6), (1, 6): (297, 233), (2, 6): (268, 235),
        (3, 6): (113, 109), (4, 6): (121, 30), (5, 6): (203, 87), (1, 7): (189, 128),
        (2, 7): (175, 160), (4, 7): (313, 79), (5, 7): (267, 254), (6, 7): (294, 275),
    }  # fmt: skip
    agreements = [(ids, *numbers) for ids, numbers in counts.items()]
    # 4 and 6 agree equally before any is left out.
    fractions = checks._by_photo(agreements)
    assert fractions[4] == pytest.approx(fractions[6], abs=0.01) and fractions[6] > 0.7
    assert checks._uncertain(agreements) == [5, 6, 7]
    right = [found for found in agreements if max(found[0]) < 5]
    assert checks._uncertain(right) == checks._uncertain([]) == []


def test_the_more_certain_solution_wins() -> None:
    one = Outcome(7, 900, 20, Path(), uncertain=("a", "b", "c"), agreement=0.6)
    other = Outcome(5, 2000, 10, Path())
    assert other.is_better_than(one) and not other.is_good_enough(7)
    assert not one.is_good_enough(7) and Outcome(7, 200, 9, Path()).is_good_enough(7)


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    outcome = Outcome(
        4, 90, 5, Path(), unconnected=("x",), uncertain=("a",), agreement=0.5, parallax_deg=0.8,
        points_per_photo=20.0,
    )  # fmt: skip
    outcome.write(tmp_path / "outcome.json")
    assert Outcome.read(tmp_path / "outcome.json", Path()) == outcome
    lines = outcome.warnings("photos", ["x", "y"])
    for text in ("1 photo of photos without overlap with the others: x;", "believable camera: y;",
                 "uncertain", "50 %", "0.8 degrees", "20 points a photo"):  # fmt: skip
        assert sum(text in line for line in lines) == 1, text
    assert Outcome(4, 900, 5, Path()).warnings("photos", []) == []
