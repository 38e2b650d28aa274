"""Photos of many formats and colour spaces, and what EXIF says about their lenses."""

import struct
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from photo_generators import (
    ADOBE_XYZ,
    P3_XYZ,
    icc_profile,
    quarter_means,
    quarters,
    srgb_codes,
    textured,
    write_dng,
    write_in_profile,
)
from PIL import ExifTags, Image, ImageCms

from recon.capture import load_capture
from recon.capture.exif import EQUIVALENT, exif_focals, exif_orientation
from recon.capture.images import image_size, read_pixels
from recon.capture.photo_files import thumbnail
from recon.errors import ReconWarning

EXPECTED = srgb_codes(quarters())
RED = (200, 30, 10)


def colors_of(path: Path) -> np.ndarray:
    return read_pixels(path, apply_orientation=False)[0].astype(float)


@pytest.mark.parametrize(
    "name, primaries, gamma, embedded",
    [
        ("Display P3", P3_XYZ, 2.2, True),
        ("Adobe RGB (1998)", ADOBE_XYZ, 563 / 256, True),
        ("another space", (P3_XYZ[1], P3_XYZ[0], P3_XYZ[2]), 1.8, True),
        ("Adobe RGB", ADOBE_XYZ, 563 / 256, False),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_profiles_become_srgb(
    name: str, primaries: tuple, gamma: float, embedded: bool, suffix: str, tmp_path: Path
) -> None:
    if suffix == ".tif" and not embedded:
        pytest.skip("Pillow does not write this part of EXIF to TIFF files")
    path = tmp_path / f"a{suffix}"
    profile = icc_profile(gamma, primaries, name) if embedded else b""
    write_in_profile(path, profile, np.linalg.inv(np.array(primaries)), gamma)
    if not embedded:
        # As cameras that are set to Adobe RGB write it.
        exif = Image.Exif()
        exif[ExifTags.Base.Model] = "Cam"
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 2
        Image.open(path).save(path, exif=exif, quality=100, subsampling=0)
    difference = np.abs(quarter_means(colors_of(path)) - quarter_means(EXPECTED))
    assert difference.max() < (8 if suffix == ".webp" else 4)
    with pytest.warns(ReconWarning, match=rf"a\{suffix}: .*{name[:9]}"):
        load_capture([path])


def test_profiles_that_are_srgb_or_broken_change_nothing(tmp_path: Path, recwarn) -> None:
    image = Image.fromarray(srgb_codes(quarters()).round().astype(np.uint8))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    np.testing.assert_array_equal(colors_of(tmp_path / "srgb.png"), np.asarray(image))
    load_capture([tmp_path / "srgb.png"])
    assert not recwarn.list
    image.save(tmp_path / "broken.png", icc_profile=srgb[:90])
    np.testing.assert_array_equal(colors_of(tmp_path / "broken.png"), np.asarray(image))
    with pytest.warns(ReconWarning, match=r"broken\.png: .*cannot be read"):
        load_capture([tmp_path / "broken.png"])


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".tga", ".jp2", ".avif", ".ppm", ".jfif"])
def test_other_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    kind = {".jfif": "JPEG"}.get(suffix)
    Image.new("RGB", (32, 24), RED).save(path, kind)
    assert image_size(path) == (32, 24)
    np.testing.assert_allclose(colors_of(path)[12, 16], RED, atol=6)
    assert len(load_capture([path]).frames) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"])
def test_every_mode(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "LAB") else "a.png")
    grey = np.full((16, 16), 128, np.uint8)
    image = Image.fromarray(grey)
    if mode == "I;16":
        Image.fromarray(np.full((16, 16), 128 * 257, np.uint16)).save(path)
    elif mode == "LAB":
        Image.merge("LAB", (image, image, image)).save(path)
    else:
        image.convert("RGB").convert(mode).save(path)
    colors = read_pixels(path, apply_orientation=False)[0]
    assert colors.shape == (16, 16, 3) and colors.dtype == np.uint8
    mean = colors.mean()
    assert abs(mean - (127.5 if mode == "1" else 119 if mode == "LAB" else 128)) < 4
    # Photos without cameras are decoded to thumbnails as well.
    assert len(load_capture(tmp_path).frames) == 1


@pytest.mark.parametrize("mark", ['GPano:ProjectionType="{}"', "<GPano:ProjectionType>{}</"])
def test_panoramas_without_cameras_are_told(mark: str, tmp_path: Path) -> None:
    for kind in ("equirectangular", "cylindrical"):
        xmp = f"<x:xmpmeta>{mark.format(kind)}</x:xmpmeta>".encode()
        Image.new("RGB", (64, 32), RED).save(tmp_path / f"{kind}.jpg", xmp=xmp)
    with pytest.warns(ReconWarning, match=r"1 of 2 photos .*equirectangular\.jpg: .* a panorama"):
        assert len(load_capture(tmp_path).frames) == 2


def test_jxl(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    textured(0).save(tmp_path / "a.jxl", lossless=True)
    (tmp_path / "a.jxl").rename(tmp_path / "called.jpg")
    np.testing.assert_array_equal(colors_of(tmp_path / "called.jpg"), np.asarray(textured(0)))


def test_avif_that_is_called_heic(tmp_path: Path) -> None:
    avif = tmp_path / "a.avif"
    textured(1).save(avif)
    avif.rename(tmp_path / "a.heic")
    assert colors_of(tmp_path / "a.heic").shape == (64, 96, 3)


@pytest.mark.parametrize(
    "name, primaries, transfer", [("P3", 12, 13), ("BT.2020", 9, 1), ("PQ", 9, 16), ("HLG", 9, 18)]
)
@pytest.mark.parametrize("suffix", [".avif", ".png"])
def test_spaces_declared_by_numbers(
    name: str, primaries: int, transfer: int, suffix: str, tmp_path: Path
) -> None:
    """White of HDR is at code 149 of PQ and 191 of HLG; sRGB primaries become less saturated."""
    path, white = tmp_path / f"a{suffix}", {16: 148, 18: 191}.get(transfer, 255)
    codes = np.full((32, 48, 3), white, np.uint8)
    codes[:, :16] = 128, 60, 60
    Image.fromarray(codes).save(path, quality=100)
    data = bytearray(path.read_bytes())
    if suffix == ".avif":
        struct.pack_into(">HH", data, data.find(b"colrnclx") + 8, primaries, transfer)
    else:
        chunk = b"cICP" + bytes([primaries, transfer, 0, 1])
        data[33:33] = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data)
    colors = colors_of(path)
    assert 245 <= colors[16, 40].min() <= colors[16, 40].max() <= 255
    assert colors[16, 8, 0] > 128 + 4 and colors[16, 8, 1] != 60
    with pytest.warns(ReconWarning, match=name):
        load_capture([path])


def test_raw(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    path = tmp_path / "a.dng"
    write_dng(path, quarters(), orientation=6)
    assert image_size(path) == (96, 64) and exif_orientation(path) == 6
    assert np.abs(quarter_means(colors_of(path)) - quarter_means(EXPECTED)).max() < 2
    assert read_pixels(path, apply_orientation=True)[0].shape == (96, 64, 3)
    assert len(load_capture(tmp_path).frames) == 1
    textured(0).save(tmp_path / "a.JPG")
    with pytest.warns(ReconWarning, match=r"a\.dng: RAW beside a developed photo"):
        assert load_capture(tmp_path).left_out == ("a.dng",)


def test_raw_without_rawpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dng(tmp_path / "b.dng", quarters())
    textured(0).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.warns(ReconWarning, match=r"b\.dng: RAW needs .*reconsplat\[raw\]"):
        assert load_capture(tmp_path).left_out == ("b.dng",)


def with_lens(
    path: Path, equivalent: object, focal: float = 2.8, zoom: float | None = None
) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Cam"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.FocalLength] = focal
    details[EQUIVALENT] = equivalent
    if zoom is not None:
        details[ExifTags.Base.DigitalZoomRatio] = zoom
    Image.new("RGB", (72, 48)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    "equivalents, expected",
    [
        ((1, 1, 1), (None, None, None)),
        ((65535, 65535), (None, None)),
        ((4000, 28, 28), (56, 56, 56)),
        ((28, 3, 28, 28), (56, 56, 56, 56)),
        ((28, 280, 28, 28), (56, 56, 56, 56)),
        ((28, 0, 28), (56, None, 56)),
        ((28, 29, 28), (56, 58, 56)),
    ],
)
def test_focal_lengths_that_cannot_be(equivalents: tuple, expected: tuple, tmp_path: Path) -> None:
    files = [with_lens(tmp_path / f"{i}.jpg", mm) for i, mm in enumerate(equivalents)]
    assert tuple(exif.focal_px for exif in exif_focals(files)) == expected
    wrong = [i for i, mm in enumerate(equivalents) if mm not in (0, 28, 29)]
    if wrong:
        with pytest.warns(ReconWarning, match=rf"35 mm equivalent .*\b{wrong[0]}\.jpg"):
            load_capture(files)


def test_zoom_lenses_and_digital_zoom_differ_rightly(tmp_path: Path, recwarn) -> None:
    files = [
        with_lens(tmp_path / "a.jpg", 28, 5.0),
        with_lens(tmp_path / "b.jpg", 28, 5.0),
        with_lens(tmp_path / "c.jpg", 56, 10.0),
        with_lens(tmp_path / "d.jpg", 56, 5.0, zoom=2.0),
    ]
    assert [exif.focal_px for exif in exif_focals(files)] == [56, 56, 112, 112]
    assert not recwarn.list


def deep_values(white: float, dtype: type) -> np.ndarray:
    """Return the quarters [h w 3], of which white is this value."""
    return (EXPECTED / 255 * white).astype(dtype)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("layout", ["rgb", "alpha", "grey"])
@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_white_of_16_bits(suffix: str, layout: str, white: int, tmp_path: Path) -> None:
    values = deep_values(white, np.uint16)
    if layout == "grey":
        values = values[..., 1]
    elif layout == "alpha":
        values = np.concatenate([values, np.full_like(values[..., :1], 65535)], -1)
    for name in ("a", "b"):
        stored = values if layout == "grey" else values[..., [2, 1, 0, 3][: values.shape[2]]]
        cv2.imwrite(str(tmp_path / f"{name}{suffix}"), np.ascontiguousarray(stored))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_capture(tmp_path)
    told = [str(w.message) for w in caught if "taken as white" in str(w.message)]
    assert len(told) == (white < 65535) and all(f"{white:,}, which" in text for text in told)
    expected = EXPECTED if layout != "grey" else np.repeat(EXPECTED[..., 1:2], 3, -1)
    assert np.abs(colors_of(tmp_path / f"a{suffix}") - expected).max() < 2


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("layout", ["rgb", "grey"])
def test_14_bits_in_16_are_told_once(suffix: str, layout: str, tmp_path: Path) -> None:
    for name, white in {"a": 16_000, "b": 16_200, "c": 65_535}.items():
        values = deep_values(white, np.uint16)
        stored = values[..., 1] if layout == "grey" else np.ascontiguousarray(values[..., ::-1])
        cv2.imwrite(str(tmp_path / f"{name}{suffix}"), stored)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_capture(tmp_path)
    told = [str(w.message) for w in caught if "taken as white" in str(w.message)]
    largest = int(deep_values(16_200, np.uint16)[..., 1 if layout == "grey" else slice(3)].max())
    assert len(told) == 1 and f"no value is above {largest:,}" in told[0]
    assert "2 of 3 photos" in told[0] and "multiply them by 4" in told[0]


@pytest.mark.parametrize(("white", "largest"), [(1, 0.9), (1, 40.0), (255, 200), (65535, 60000)])
def test_white_of_floating_point(white: float, largest: float, tmp_path: Path) -> None:
    values = deep_values(white, np.float32)[..., 1]
    values[0, 0], values[0, 1] = largest, np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.warns(ReconWarning, match=f"floating-point values .* {white:,g} is white"):
        load_capture(tmp_path)
    assert np.abs(colors_of(tmp_path / "a.tif")[2:] - EXPECTED[2:, :, 1:2]).max() < 2


def test_deep_grey_photos_are_not_copies(tmp_path: Path) -> None:
    for seed in (1, 2):
        codes = np.asarray(textured(seed).convert("L")).astype(np.uint16)
        Image.fromarray(codes * 200 + 300).save(tmp_path / f"{seed}.png")
    first, second = (thumbnail(tmp_path / f"{seed}.png") for seed in (1, 2))
    assert np.abs(first - second).mean() > 5 and first.std() > 5


def test_deep_photos_are_rotated_as_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(deep_values(4095, np.uint16)[..., 1]).save(tmp_path / "a.png", exif=exif)
    stored = read_pixels(tmp_path / "a.png", apply_orientation=False)[0]
    shown = read_pixels(tmp_path / "a.png", apply_orientation=True)[0]
    np.testing.assert_array_equal(shown, np.rot90(stored, -1))
