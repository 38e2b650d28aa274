"""Masks in the layouts that people use, for captures with and without cameras."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from capture_files import shots, write_colmap_capture, write_transforms_capture
from PIL import Image

from recon.capture import load_capture, load_views, write_transforms
from recon.capture.types import Capture
from recon.errors import ReconError, ReconWarning


def mask(path: Path, size: tuple[int, int] = (160, 120), white: int = 255) -> None:
    """Write a mask whose right half is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[:, size[0] // 2 :] = white
    Image.fromarray(pixels).save(path)


def told(folder: Path, invert: bool = False) -> tuple[Capture, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        capture = load_capture(folder, invert_masks=invert)
    return capture, [str(warning.message) for warning in caught]


def mask_names(capture: Capture) -> list[str | None]:
    paths = [frame.mask_path for frame in capture.frames]
    return [None if p is None else p.relative_to(capture.root).as_posix() for p in paths]


LAYOUTS = [
    "masks/{}.png",
    "masks/{}.png.png",
    "Masks/{}.png.PNG",
    "mask/{}_mask.png",
    "image_mask/{}.png",
    "masks_2/{}.png",
    "images/masks/{}.png",
    "masks/images/{}.png",
    "masks/mask_{}.png",
    "images/{}.mask.png",
    "images/{}_mask.png",
    "images/{}.png.mask.png",
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["colmap", "transforms", "images"])
def test_layouts(tmp_path: Path, layout: str, kind: str):
    cameras = shots(centered=False)
    write_colmap_capture(tmp_path, cameras, "PINHOLE", [150.0, 154.0, 87.0, 55.0])
    if kind == "transforms":
        write_transforms_capture(tmp_path, cameras)
    if kind != "colmap":
        (tmp_path / "sparse").rename(tmp_path.with_name(f"{tmp_path.name}_sparse"))
    for i in range(3):
        mask(tmp_path / layout.format(i))
    capture, messages = told(tmp_path)
    assert capture.kind == kind and len(capture.frames) == 3
    assert mask_names(capture) == [layout.format(i) for i in range(3)]
    assert len(messages) == 1 and "masks of 3 of 3 photos are used: white is kept" in messages[0]


@pytest.mark.parametrize("white", [255, 1])
@pytest.mark.parametrize("invert", [False, True])
def test_white_is_kept(tmp_path: Path, white: int, invert: bool):
    write_transforms_capture(tmp_path, shots(centered=False))
    mask(tmp_path / "masks" / "1.png", white=white)
    capture, messages = told(tmp_path, invert)
    assert "these have none and are used whole: images/0.png, images/2.png" in messages[0]
    masks = load_views(capture.frames, 160).masks
    assert masks[0].min() == 1
    assert masks[1, ..., :80].unique().tolist() == [float(invert)]
    assert masks[1, ..., 80:].unique().tolist() == [float(not invert)]
    write_transforms(tmp_path / "saved.json", capture.frames)
    saved = load_capture(tmp_path / "saved.json")
    assert [frame.mask_inverted for frame in saved.frames] == [False, invert, False]


def test_folders_of_several_cameras(tmp_path: Path):
    """Each mask belongs to one photo; one that fits several is not used."""
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (160, 120)).save(path)
    for name in ("masks/b/1.png", "masks/1.png", "masks/2.png", "masks/7.png"):
        mask(tmp_path / name)
    capture, messages = told(tmp_path)
    assert mask_names(capture) == [None, "masks/2.png", "masks/b/1.png"]
    assert "fit none of the photos are not used: masks/1.png, masks/7.png" in messages[0]


def test_photos_that_are_called_mask(tmp_path: Path):
    for name in ("mask_1.jpg", "festival_mask.jpg", "3.jpg", "3_mask.jpg"):
        Image.new("RGB", (16, 12)).save(tmp_path / name)
    capture, _ = told(tmp_path)
    assert [f.name for f in capture.frames] == ["3.jpg", "festival_mask.jpg", "mask_1.jpg"]
    assert mask_names(capture) == ["3_mask.jpg", None, None]


def test_masks_of_instant_ngp_are_not_taken_for_photos(tmp_path: Path):
    write_transforms_capture(tmp_path, shots(centered=False))
    mask(tmp_path / "images" / "dynamic_mask_1.png")
    capture, messages = told(tmp_path)
    assert mask_names(capture) == [None] * 3
    assert "leave out white are not read: images/dynamic_mask_1.png" in messages[0]
    (tmp_path / "transforms.json").unlink()
    assert len(told(tmp_path)[0].frames) == 3


def test_masks_of_another_shape(tmp_path: Path):
    write_transforms_capture(tmp_path, shots(centered=False))
    mask(tmp_path / "masks" / "0.png", (120, 160))
    with pytest.warns(ReconWarning):
        capture = load_capture(tmp_path)
    with pytest.raises(ReconError, match=r"mask .*0\.png is 120x160 px .* expected the same"):
        load_views(capture.frames, 160)


@pytest.mark.parametrize(("orientation", "kept"), [(6, np.s_[60:]), (8, np.s_[:60])])
def test_masks_of_rotated_photos(tmp_path: Path, orientation: int, kept: slice):
    """A mask of the photo as shown is rotated to its stored pixels."""
    write_transforms_capture(tmp_path, shots(centered=False))
    photo = tmp_path / "images" / "0.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(photo).save(photo, exif=exif)
    shown = np.zeros((160, 120), np.uint8)
    shown[:, :60] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(shown).save(tmp_path / "masks" / "0.png")
    stored = np.zeros((120, 160), bool)
    stored[kept] = True
    masks = load_views(told(tmp_path)[0].frames[:1], 160).masks[0, 0]
    np.testing.assert_array_equal(masks.numpy() > 0.5, stored)
