"""Damaged captures give one clear line, or views of every photo that no warning names.

RECON_FUZZ sets the number of mutated captures of each kind.
"""

import json
import os
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from capture_files import (
    shots,
    write_colmap_capture,
    write_images,
    write_llff_capture,
    write_transforms_capture,
)
from mutations import mutated

from recon import ReconError
from recon.capture import load_capture, load_views

COUNT = int(os.environ.get("RECON_FUZZ", "25"))
Damage = Callable[[Path, random.Random], None]
# What names and numbers become.
STRINGS = (
    "",
    "é",
    "a b.png",
    "..",
    "/",
    "images",
    "C:\\x\\0.png",
    "0.PNG",
    "x" * 300,
    "\0",
    "0.png",
)
NUMBERS = (0, -1, 1e-30, 1e30, float("nan"), float("inf"), 2**63, "7", None, [], {}, True)


def damage_bytes(name: str) -> Damage:
    """Return a damage to the bytes of one file of a capture."""

    def damage(folder: Path, dice: random.Random) -> None:
        path = folder / name
        path.write_bytes(mutated(path.read_bytes(), dice))

    return damage


def damage_json(folder: Path, dice: random.Random) -> None:
    """Change, remove or repeat values anywhere in transforms.json."""
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    for _ in range(dice.choice((1, 1, 2, 4))):
        parent, key = dice.choice(list(slots(document)))
        kind = dice.randrange(4)
        if kind == 0:
            parent[key] = dice.choice((*STRINGS, *NUMBERS))
        elif kind == 1:
            del parent[key]
        elif kind == 2 and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif isinstance(parent[key], int | float):
            parent[key] = parent[key] * dice.choice((-1, 0, 1e-6, 1e6, 1e200))
    path.write_text(json.dumps(document))


def slots(value: Any) -> list[tuple[Any, Any]]:
    """List every container of a JSON document with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, Any]] = []
    for key, child in list(pairs):
        found.append((value, key))
        if isinstance(child, dict | list):
            found += slots(child)
    return found


def damage_text(name: str) -> Damage:
    """Return a damage to the words and lines of a text file."""

    def damage(folder: Path, dice: random.Random) -> None:
        path = folder / name
        lines = [line.split(" ") for line in path.read_text().splitlines()]
        for _ in range(dice.choice((1, 1, 3))):
            if not lines:
                break
            line = dice.choice(lines)
            at = dice.randrange(len(line) + 1) - 1
            kind = dice.randrange(4)
            if kind == 0 and line:
                line[at] = str(dice.choice((*STRINGS, *NUMBERS)))
            elif kind == 1:
                del line[at:]
            elif kind == 2:
                lines.remove(line)
            else:
                lines.insert(dice.randrange(len(lines)), list(line))
        path.write_text("\n".join(map(" ".join, lines)) + "\n")

    return damage


def rename_photos(folder: Path, dice: random.Random) -> None:
    """Rename, remove, repeat or replace photos."""
    photo = dice.choice(sorted((folder / "images").iterdir()))
    other = photo.with_name(dice.choice(("00.png", "0.JPG", "1.jpeg", "a b.png", ".0.png", "0")))
    dice.choice(
        (
            photo.unlink,
            lambda: photo.rename(other),
            lambda: shutil.copy(photo, other),
            lambda: photo.write_bytes(b""),
            lambda: photo.write_text("not a photo"),
            lambda: photo.write_bytes(mutated(photo.read_bytes(), dice)),
        )
    )()


def transforms(folder: Path) -> None:
    write_transforms_capture(folder, shots(False))


def colmap(folder: Path) -> None:
    write_colmap_capture(folder, shots(False)[:3], "PINHOLE", [150.0, 154.0, 87.0, 55.0])


def llff(folder: Path) -> None:
    write_llff_capture(folder, shots(True))


def photos(folder: Path) -> None:
    write_images(folder, shots(True))


KINDS: dict[str, tuple[Callable[[Path], None], Damage]] = {
    "JSON values": (transforms, damage_json),
    "JSON bytes": (transforms, damage_bytes("transforms.json")),
    "photos with cameras": (transforms, rename_photos),
    "COLMAP images": (colmap, damage_text("sparse/0/images.txt")),
    "COLMAP cameras": (colmap, damage_text("sparse/0/cameras.txt")),
    "COLMAP points": (colmap, damage_text("sparse/0/points3D.txt")),
    "COLMAP bytes": (colmap, damage_bytes("sparse/0/images.txt")),
    "photos of COLMAP": (colmap, rename_photos),
    "LLFF": (llff, damage_bytes("poses_bounds.npy")),
    "photos of LLFF": (llff, rename_photos),
    "photos alone": (photos, rename_photos),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_captures(kind: str, tmp_path: Path) -> None:
    write, damage = KINDS[kind]
    dice = random.Random(kind)
    outcomes = []
    for attempt in range(COUNT):
        folder = tmp_path / str(attempt)
        write(folder)
        damage(folder, dice)
        outcomes.append(check(folder))
    assert any(outcomes) or kind == "LLFF"
    # One bad value leaves out one photo at most, unless it is of all photos.
    assert not all(outcomes) or any(word in kind for word in ("photos", "points", "values"))


def check(folder: Path) -> bool:
    """Return whether a capture is read; fail on lost photos and anything but a ReconError."""
    files = (folder / "images").iterdir()
    present = {p.name for p in files if p.suffix and not p.name.startswith(".")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            capture = load_capture(folder)
            used = {Path(frame.name).name for frame in capture.frames}
            if capture.has_cameras:
                used = {Path(name).name for name in load_views(capture, 32).names}
        except ReconError as error:
            assert "\n" not in str(error) and len(str(error)) > 20
            return False
    said = " ".join(str(warning.message) for warning in caught)
    assert "\n" not in said
    lost = [name for name in sorted(present - used) if name not in said]
    assert not lost, f"{folder}: {lost} used {used}, said {said!r}"
    return True
