"""Image files of every common kind, and damaged ones."""

import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from recon.capture.images import MAX_PIXELS, image_size, open_image, read_image, read_mask
from recon.errors import ReconError

RED = (200, 30, 10)


def plain(path: Path) -> np.ndarray:
    colors, alpha = read_image(path, apply_orientation=False)
    assert alpha is None
    assert colors.dtype == np.float32
    return colors


def test_rgb(tmp_path: Path):
    Image.new("RGB", (5, 3), RED).save(tmp_path / "a.png")
    colors = plain(tmp_path / "a.png")
    assert colors.shape == (3, 5, 3)
    np.testing.assert_allclose(colors[1, 2], np.array(RED) / 255, atol=1e-6)
    assert image_size(tmp_path / "a.png") == (5, 3)


@pytest.mark.parametrize("name", ["a.JPG", "a.webp", "a.tiff"])
def test_other_extensions(tmp_path: Path, name: str):
    Image.new("RGB", (16, 16), RED).save(tmp_path / name, quality=95)
    np.testing.assert_allclose(plain(tmp_path / name)[8, 8], np.array(RED) / 255, atol=0.03)


def test_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.heic").write_bytes(b"not an image")
    with pytest.raises(ReconError, match=r"a\.heic: expected an image file"):
        read_image(tmp_path / "a.heic", apply_orientation=False)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ReconError, match=r"pip install 'reconsplat\[heic\]'"):
        read_image(tmp_path / "a.heic", apply_orientation=False)


def test_grey_palette_and_cmyk(tmp_path: Path):
    Image.new("L", (4, 4), 51).save(tmp_path / "grey.png")
    np.testing.assert_allclose(plain(tmp_path / "grey.png"), 0.2, atol=1e-6)
    Image.new("RGB", (4, 4), RED).quantize(4).save(tmp_path / "palette.png")
    np.testing.assert_allclose(plain(tmp_path / "palette.png")[0, 0], np.array(RED) / 255)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.tiff")
    np.testing.assert_allclose(plain(tmp_path / "cmyk.tiff")[4, 4], [1, 0, 0], atol=0.02)


def test_16_bit_grey_keeps_its_steps(tmp_path: Path):
    values = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4)
    Image.fromarray(values).save(tmp_path / "deep.png")
    # Rounded to 8 bits, which photos are stored at.
    np.testing.assert_allclose(plain(tmp_path / "deep.png")[..., 1], values / 65535, atol=0.5 / 255)


def test_alpha(tmp_path: Path):
    pixels = np.full((2, 2, 4), 255, np.uint8)
    pixels[0, 0] = (*RED, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    colors, alpha = read_image(tmp_path / "a.png", apply_orientation=False)
    assert alpha is not None
    np.testing.assert_array_equal(alpha, [[0, 1], [1, 1]])
    np.testing.assert_allclose(colors[0, 0], np.array(RED) / 255, atol=1e-6)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[0, 255], [255, 255]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int):
    """Orientation is applied on request only, and moves the red corner as EXIF specifies."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    stored, _ = read_image(tmp_path / "a.png", apply_orientation=False)
    assert stored.shape == (16, 32, 3)
    assert stored[0, 0, 0] == 1
    shown, _ = read_image(tmp_path / "a.png", apply_orientation=True)
    # Where the stored top-left corner belongs: (row, column) of the displayed image.
    row, column = {
        1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0),
        5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0),
    }[orientation]  # fmt: skip
    assert shown[row, column, 0] == 1
    assert shown[..., 0].sum() == 64
    assert image_size(tmp_path / "a.png") == (32, 16)
    assert (shown.shape[0] > shown.shape[1]) == (orientation >= 5)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_truncated(tmp_path: Path, name: str):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReconError, match=rf"cannot read .*{name}: ") as caught:
        read_image(tmp_path / name, apply_orientation=False)
    assert "remove it" in str(caught.value)


def test_unreadable(tmp_path: Path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ReconError, match=r"empty\.jpg: the file is empty"):
        read_image(tmp_path / "empty.jpg", apply_orientation=False)
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ReconError, match=r"text\.jpg: expected an image file"):
        image_size(tmp_path / "text.jpg")
    with pytest.raises(ReconError, match=r"gone\.jpg: image not found"):
        image_size(tmp_path / "gone.jpg")


def test_importing_recon_leaves_pillow_as_it_is(tmp_path: Path):
    """Its limit and its warnings are changed only while a photo is open, by several threads too."""
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.png")
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    assert limit == Image.MAX_IMAGE_PIXELS != MAX_PIXELS
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: read_image(tmp_path / "a.png", False), range(40)))
    with pytest.raises(KeyError), open_image(tmp_path / "a.png") as image:
        with warnings.catch_warnings(record=True) as told:
            warnings.warn_explicit("damaged EXIF", UserWarning, "Image.py", 1, "PIL.Image")
        assert not told and image.size == (4, 4)
        raise KeyError
    assert list(warnings.filters) == filters and limit == Image.MAX_IMAGE_PIXELS


def test_photos_above_the_usual_limit_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    Image.new("RGB", (40, 40), RED).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (40, 40)
    monkeypatch.setattr("recon.capture.images.MAX_PIXELS", 4)
    with pytest.raises(ReconError, match=r"a\.png: expected an image file"):
        image_size(tmp_path / "a.png")


def test_only_errors_of_libraries_are_told_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.png")

    def failing(error: Exception) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise error

        return fail

    with monkeypatch.context() as patch:
        patch.setattr("recon.capture.images.srgb_image", failing(MemoryError("4 GB")))
        with pytest.raises(MemoryError, match="4 GB"):
            read_image(tmp_path / "a.png", apply_orientation=False)
    with monkeypatch.context() as patch:
        patch.setattr("recon.capture.images.TRANSPOSITIONS", None)  # a mistake in recon
        with pytest.raises(AttributeError):
            read_image(tmp_path / "a.png", apply_orientation=True)
    for error in (TypeError("of a plugin"), IndexError("of a plugin"), cv2.error("of OpenCV")):
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, "load", failing(error))
            with pytest.raises(ReconError, match="the file is damaged or cut short"):
                read_image(tmp_path / "a.png", apply_orientation=False)
