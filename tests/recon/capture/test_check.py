"""Warnings about photos: blur, exposure, too little overlap."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from recon.capture import load_capture
from recon.capture.check import check_photos
from recon.cli import main as cli


def ignore(stage: str, done: float) -> None:
    """Ignore the progress."""


@pytest.fixture
def photos(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample / "images", tmp_path / "photos"))


def test_good_photos(photos: Path) -> None:
    check = check_photos(load_capture(photos).frames, ignore)
    assert (check.num_checked, check.groups, check.warnings) == (8, 1, ())
    assert check.median_overlaps >= 3


def test_warnings_name_the_photos(photos: Path, capsys) -> None:
    names = sorted(path.name for path in photos.iterdir())
    blurred, dark = photos / names[1], photos / names[4]
    Image.open(blurred).filter(ImageFilter.GaussianBlur(6)).save(blurred)
    ImageEnhance.Brightness(Image.open(dark)).enhance(0.25).save(dark)
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "other.png")
    cli.main(["info", str(photos)])
    text = capsys.readouterr().err
    assert f"warning: {blurred.name} is blurred" in text
    assert f"warning: {dark.name} is 0.2 times as bright" in text
    assert "warning: other.png overlaps too little" in text
    cli.main(["info", str(photos), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["photos_looked_at"] == 9 and facts["overlap_groups"] >= 2
    assert any(warning.startswith("other.png") for warning in facts["warnings"])


def test_photos_without_corners(tmp_path: Path) -> None:
    for number in range(3):
        color = (10 + 20 * number, 20, 30)
        Image.new("RGB", (64, 48), color).save(tmp_path / f"{number}.png")
    check = check_photos(load_capture(tmp_path).frames, ignore)
    assert check.groups == 3 and check.median_overlaps == 0
    one = check_photos(load_capture(tmp_path).frames[:1], ignore)
    assert all("hardly any detail" in warning for warning in one.warnings)


def test_copies_and_photos_without_detail_are_told(photos: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in photos.iterdir())
    for i in range(30):
        shutil.copy(photos / names[0], tmp_path / f"z{i}.jpg")
    sky = np.linspace(120, 200, 300, dtype=np.uint8)[:, None, None].repeat(400, 1).repeat(3, 2)
    Image.fromarray(sky).save(tmp_path / "sky.png")
    check = check_photos(load_capture(tmp_path).frames, ignore)
    assert check.num_checked == 2
    assert check.warnings[0].startswith("z1.jpg, z2.jpg, z3.jpg, z4.jpg, z5.jpg and 24 more: the s")
    assert check.warnings[1].startswith("sky.png: hardly any detail")


def test_photos_that_any_fundamental_matrix_fits(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV fails for a photo and a copy of it in another format."""

    def fails(*arguments: object) -> None:
        raise cv2.error("!model.empty()")

    monkeypatch.setattr(cv2, "findFundamentalMat", fails)
    frames = load_capture(photos).frames[:2]
    assert check_photos(frames, ignore).groups == 1
