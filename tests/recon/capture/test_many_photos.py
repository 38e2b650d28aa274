"""Solving the cameras of many photos: pairs, copies, expected time."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recon.capture import load_capture
from recon.capture.isolated import SCRIPTS
from recon.capture.isolated.sfm_pairs import (
    MAX_EXHAUSTIVE,
    ORDER_OFFSETS,
    select_pairs,
    vlad_similarity,
)
from recon.capture.sfm import SolveConfig, solve_cameras, stages
from recon.capture.sfm import solver as solver_module
from recon.capture.sfm.duplicates import distinct_photos
from recon.capture.sfm.matching import match_pairs
from recon.capture.sfm.prepare import PreparedImages
from recon.cli import main as cli
from recon.errors import InputError

COUNT = 120


def ignore(stage: str, done: float) -> None:
    """Ignore the progress."""


def orbit(order: np.ndarray) -> np.ndarray:
    """Return the similarity of photos on a circle [v v], in an order of names."""
    angles = 2 * np.pi * order / len(order)
    return np.cos(angles[:, None] - angles)


def circle_distances(order: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    steps = np.abs([order[a] - order[b] for a, b in pairs])
    return np.minimum(steps, len(order) - steps)


def test_pairs_of_a_video_close_the_loop() -> None:
    order = np.arange(COUNT)
    pairs = select_pairs(orbit(order))
    assert pairs == sorted(set(pairs)) and all(a < b for a, b in pairs)
    assert (0, COUNT - 1) in pairs
    # By order, whatever the photos look like.
    far = [(a, a + ORDER_OFFSETS[-1]) for a in range(COUNT - ORDER_OFFSETS[-1])]
    assert set(far) <= set(pairs)
    assert len(pairs) < 0.25 * COUNT * (COUNT - 1) / 2


def test_pairs_of_photos_in_random_order() -> None:
    """The order of names says nothing, so that only photos that look alike are matched."""
    order = np.random.default_rng(0).permutation(COUNT)
    pairs = select_pairs(orbit(order))
    assert circle_distances(order, pairs).max() <= 12
    neighbours = {frozenset((order[a], order[b])) for a, b in pairs}
    assert all(frozenset((i, (i + 1) % COUNT)) in neighbours for i in range(COUNT))


def test_vlad_tells_scenes_apart() -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 128, (300, 128)) for _ in range(2)]
    photos = [
        np.clip(scenes[i % 2] + rng.integers(-9, 9, (300, 128)), 0, 255).astype(np.uint8)
        for i in range(6)
    ]
    similarity = vlad_similarity(photos, 0)
    assert np.array_equal(similarity, vlad_similarity(photos, 0))
    alike = similarity[0, 2::2]
    assert alike.min() > similarity[0, 1::2].max() + 0.2
    assert np.allclose(np.diag(similarity), 1, atol=1e-4)


def test_photos_without_features_have_no_similarity() -> None:
    empty = np.zeros((0, 128), np.uint8)
    assert vlad_similarity([empty] * 3, 0).tolist() == [[0.0] * 3] * 3
    assert len(select_pairs(np.zeros((MAX_EXHAUSTIVE + 1,) * 2))) > MAX_EXHAUSTIVE


def scene(number: int) -> Image.Image:
    coarse = np.random.default_rng(number).integers(0, 255, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def test_copies_are_found(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    scene(1).save(tmp_path / "c.png")
    scene(0).resize((200, 150)).save(tmp_path / "d.jpg", quality=60)
    moved = np.roll(np.asarray(scene(0)), 12, axis=1)
    Image.fromarray(moved).save(tmp_path / "e.png")
    assert distinct_photos(sorted(tmp_path.iterdir())) == [0, 2, 4]


def test_identical_photos_are_one_line_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solver_module, "run_sfm", None)
    for number in range(5):
        scene(0).save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match=r"5 photos .* copies of one photo \(0.png\)") as end:
        solve_cameras(load_capture(tmp_path), SolveConfig(), ignore)
    assert "\n" not in str(end.value)


def test_info_tells_identical_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        scene(0).save(tmp_path / f"{number}.png")
    cli.main(["info", str(tmp_path)])
    assert "they are copies of one photo (0.png)" in capsys.readouterr().err


def test_the_time_is_told_before_it_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "count_processes", lambda num_pairs: 2)
    told = [
        stages.expected_time(1225, 34.4, 1.0, 50),
        stages.expected_time(40_000, 600.0, 9.0, 200),
    ]
    assert told == [
        ": 1,225 pairs, about 37 s until the cameras are solved",
        ": 40,000 pairs, about 16 min until the cameras are solved",
    ]


def test_a_late_attempt_does_not_lose_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mapper runs into its limit after its first attempt."""
    told: list[str] = []

    def run_stage(stage: stages.Stage, job: Path, limit: float) -> None:
        told.append(stage.description)
        if stage is stages.PAIRS:
            (job.parent / "plan.json").write_text(
                '{"num_detailed": 4, "num_pairs": 3, "seconds": 2.0, "slowdown": 1.0}'
            )
        if stage is stages.MAPPING:
            summary = dict(num_registered=2, num_points=9, num_matched_pairs=3, unconnected=["a"])
            (job.parent / "summary.json").write_text(json.dumps(summary))
            raise InputError("too late")

    monkeypatch.setattr(stages, "_run_stage", run_stage)
    prepared = stages.PreparedImages(Path(), None, (), {str(i): {} for i in range(4)})
    lines: list[str] = []
    outcome = stages.run_sfm(
        prepared, tmp_path, 0, ("sift",), lambda stage, done: lines.append(stage)
    )
    assert outcome.num_registered == 2 and outcome.unconnected == ("a",)
    assert lines[2].startswith("matching photos: 3 pairs, about 5 s")


GROUPS = """
import sys, numpy as np, pycolmap
sys.path.insert(0, sys.argv[1])
from sfm_mapping import _largest_group
with pycolmap.Database.open(sys.argv[2]) as database:
    camera = database.write_camera(pycolmap.Camera.create_from_model_name(
        1, "SIMPLE_PINHOLE", 500.0, 640, 480))
    ids = [database.write_image(pycolmap.Image(name=f"{i}.jpg", camera_id=camera))
           for i in range(7)]
    for a, b in ((0, 1), (1, 2), (3, 4), (4, 5), (5, 6)):
        geometry = pycolmap.TwoViewGeometry()
        geometry.inlier_matches = np.zeros((20, 2), np.uint32)
        database.write_two_view_geometry(ids[a], ids[b], geometry)
print(_largest_group({"database": sys.argv[2]}))
"""


def test_the_largest_group_is_mapped(tmp_path: Path) -> None:
    """In a process of its own, since torch and pycolmap do not go together."""
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    arguments = [str(SCRIPTS), str(tmp_path / "database.db")]
    done = subprocess.run(
        [sys.executable, "-c", GROUPS, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str((["3.jpg", "4.jpg", "5.jpg", "6.jpg"], 5)), done.stderr


@pytest.mark.slow
def test_matches_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    texture = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    whole = Image.fromarray(texture).resize((900, 600), Image.Resampling.BICUBIC)
    names = [f"{i}.jpg" for i in range(5)]
    for i, name in enumerate(names):
        whole.crop((60 * i, 30 * i, 60 * i + 400, 30 * i + 300)).save(tmp_path / name)
    group = {"names": names, "width": 400, "height": 300, "focal_px": None}
    prepared = PreparedImages(tmp_path, None, (group,), {})
    job = tmp_path / "job.json"
    values = stages.make_job(prepared, tmp_path, 0)
    job.write_text(json.dumps(values))
    stages._run_stage(stages.FEATURES, job, 60.0)
    pairs = [f"{a} {b}" for a in names for b in names if a < b]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs))
    features, found = (tmp_path / "database.db").read_bytes(), []
    for processes in (1, 3):
        (tmp_path / "database.db").write_bytes(features)
        assert match_pairs(stages.MATCHING.command, job, 60.0, processes) is None
        with closing(sqlite3.connect(tmp_path / "database.db")) as database:
            found.append(
                [
                    database.execute(f"SELECT * FROM {table} ORDER BY pair_id").fetchall()
                    for table in ("matches", "two_view_geometries")
                ]
            )
    assert found[0] == found[1]
    assert len(found[0][1]) == len(pairs) and all(rows > 50 for _, rows, *_ in found[0][1])
