"""Cameras that photos contradict, as exporters confuse axes and directions of matrices."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recon import estimate_cameras
from recon.capture import load_capture
from recon.capture.agreement import agree, warn_of_contradictions
from recon.cli.main import main
from recon.errors import ReconWarning
from render.quaternions import rotmats_to_quats

FLIP = np.diag([1.0, -1, -1, 1])
Matrix = Callable[[np.ndarray], np.ndarray]


def told(path: Path) -> str:
    """Return what is told of the cameras of a capture."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ReconWarning)
        warn_of_contradictions(load_capture(path))
    return " ".join(str(warning.message) for warning in found)


def copied(sample: Path, folder: Path, change: Matrix) -> Path:
    """Copy the sample, with other matrices in its transforms.json."""
    shutil.copytree(sample, folder)
    file = folder / "transforms.json"
    document = json.loads(file.read_text())
    for frame in document["frames"]:
        frame["transform_matrix"] = change(np.array(frame["transform_matrix"])).tolist()
    file.write_text(json.dumps(document))
    return folder


def as_colmap(sample: Path, folder: Path, position: bool) -> Path:
    """Write the sample as a COLMAP project, with positions instead of translations if asked."""
    shutil.copytree(sample / "images", folder / "images")
    document = json.loads((sample / "transforms.json").read_text())
    lines = []
    for i, frame in enumerate(document["frames"]):
        c2w = np.array(frame["transform_matrix"]) @ FLIP
        viewmat = np.linalg.inv(c2w)
        quat = rotmats_to_quats(torch.from_numpy(viewmat[:3, :3])).tolist()
        offset = c2w[:3, 3] if position else viewmat[:3, 3]
        name = Path(frame["file_path"]).name
        lines.append(" ".join(map(str, [i + 1, *quat, *offset.tolist(), 1, name])) + "\n\n")
    (folder / "images.txt").write_text("".join(lines))
    values = " ".join(str(document[key]) for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"))
    (folder / "cameras.txt").write_text(f"1 PINHOLE {values}\n")
    return folder


def test_cameras_that_are_right(sample: Path, tmp_path: Path) -> None:
    assert told(sample) == ""
    assert told(as_colmap(sample, tmp_path / "colmap", position=False)) == ""
    # Poses of phones are off by a degree.
    c, s = np.cos(0.015), np.sin(0.015)
    tilt = np.array([[c, -s, 0, 0.01], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    signs = iter([1, -1] * 4)
    shaken = copied(
        sample, tmp_path / "shaken", lambda m: m @ (tilt if next(signs) > 0 else FLIP @ FLIP)
    )
    assert told(shaken) == ""


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda m: m @ FLIP, "y and z axes of the cameras negated"),
        (np.linalg.inv, "camera-to-world and world-to-camera exchanged, and the y and z"),
        (lambda m: FLIP @ np.linalg.inv(m) @ FLIP, "world-to-camera exchanged; correct"),
    ],
)
def test_what_exporters_confuse_is_told(
    change: Matrix, how: str, sample: Path, tmp_path: Path
) -> None:
    text = told(copied(sample, tmp_path / "wrong", change))
    assert "contradict its photos: " in text
    assert how in text
    assert "source='solve'" in text


def test_positions_instead_of_translations(sample: Path, tmp_path: Path, capsys) -> None:
    folder = as_colmap(sample, tmp_path / "colmap", position=True)
    with pytest.warns(ReconWarning, match="with the translations as positions of the cameras"):
        estimate_cameras(load_capture(folder))
    main(["info", str(folder)])
    assert "contradict its photos" in capsys.readouterr().err


def test_any_other_rotation(sample: Path, tmp_path: Path) -> None:
    """Without a correction that fits, the contradiction itself is told."""
    generator = np.random.default_rng(0)

    def rotated(matrix: np.ndarray) -> np.ndarray:
        out = matrix.copy()
        out[:3, :3] = np.linalg.qr(generator.normal(size=(3, 3)))[0]
        out[:3, 0] *= np.linalg.det(out[:3, :3])
        return out

    text = told(copied(sample, tmp_path / "rotated", rotated))
    assert "matches agree with them; or pass source='solve'" in text


def test_nothing_is_told_without_evidence(sample: Path, tmp_path: Path) -> None:
    folder = copied(sample, tmp_path / "few", lambda m: m @ FLIP)
    document = json.loads((folder / "transforms.json").read_text())
    two = [document["frames"][index] for index in (0, 2)]
    (folder / "transforms.json").write_text(json.dumps({**document, "frames": two}))
    assert "contradict" in told(folder)
    photo = folder / two[1]["file_path"]
    noise = np.random.default_rng(0).integers(0, 255, (document["h"], document["w"], 3), np.uint8)
    Image.fromarray(noise).save(photo)
    assert "contradict" not in told(folder)


def test_agreement_of_single_matches() -> None:
    """The second camera is one unit to the right of the first."""
    b_from_a = np.eye(4)
    b_from_a[0, 3] = -1
    points = np.array([[0.0, 0, 5], [0, 1, 5], [0, 0, 5], [0.5, 0.2, 1e9]])
    seen = points + b_from_a[:3, 3]
    # The rays of the third match meet behind the cameras.
    seen[2, 0] = 1
    a, b = (rays / np.linalg.norm(rays, axis=1, keepdims=True) for rays in (points, seen))
    assert agree(a, b, b_from_a).tolist() == [True, True, False, True]
    up = b + [0, 0.1, 0]
    assert not agree(a, up / np.linalg.norm(up, axis=1, keepdims=True), b_from_a).any()
