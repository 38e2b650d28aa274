"""Folders as phones, scanners and their apps fill them: maps, twins, placeholders, panoramas."""

import json
import warnings
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from capture_files import Shot, shots, write_images
from photo_generators import textured
from PIL import Image
from test_video_kinds import write as write_video

from recon.capture import Capture, load_capture
from recon.capture.images import image_size
from recon.capture.photo_files import looks_like_panorama
from recon.capture.video_frames import Raster
from recon.errors import InputError, LeftOutWarning, ReconWarning, strictly


def told(source: Path) -> tuple[Capture, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ReconWarning)
        capture = load_capture(source)
    return capture, "\n".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("photo", "maps"),
    [
        ("frame-00000{}.color.png", ["frame-00000{}.depth.png"]),
        ("IMG_000{}.jpg", ["IMG_000{}_depth.TIF"]),
        ("frame00000{}.jpg", ["depth00000{}.png"]),
        ("r_{}.png", ["r_{}_depth_0001.png", "r_{}_normal_0001.png"]),
        ("Scan {} RGB.jpg", ["Scan {} Confidence.png"]),
        ("{}.jpg", ["normals_{}.png", "{}-disparity.png"]),
    ],
)
def test_maps_beside_photos_are_left_out(photo: str, maps: list[str], tmp_path: Path) -> None:
    for i in range(3):
        textured(i).save(tmp_path / photo.format(i))
        for name in maps:
            Image.fromarray(np.full((64, 96), 1000 + i, np.uint16)).save(tmp_path / name.format(i))
    capture, warning = told(tmp_path)
    assert [frame.name for frame in capture.frames] == [photo.format(i) for i in range(3)]
    assert sorted(capture.left_out) == sorted(n.format(i) for n in maps for i in range(3))
    assert f"left out {3 * len(maps)} images" in warning and maps[0].format(0) in warning


def test_photos_with_such_words_stay(tmp_path: Path) -> None:
    """Without a photo that they could belong to, or where the word is a part of another."""
    names = ["depth 1.jpg", "depth 2.jpg", "In Depths of Normandy.jpg", "tour 7.jpg"]
    for i, name in enumerate(names):
        textured(i).save(tmp_path / name)
    capture, _ = told(tmp_path)
    assert sorted(frame.name for frame in capture.frames) == sorted(names)


def test_photos_that_are_in_icloud_only_are_named(tmp_path: Path) -> None:
    textured(0).save(tmp_path / "a.jpg")
    textured(1).save(tmp_path / "b.jpg")
    (tmp_path / ".IMG_1.HEIC.icloud").write_bytes(b"bplist00")
    capture, warning = told(tmp_path)
    assert len(capture.frames) == 2 and capture.left_out == (".IMG_1.HEIC.icloud",)
    assert "not downloaded from iCloud" in warning
    with pytest.raises(InputError, match="strict=True"), strictly(True):
        load_capture(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"only files that are in iCloud only \(\.IMG_1\.HEIC"):
        load_capture(tmp_path)


def test_raw_twins_of_googles_phones(tmp_path: Path) -> None:
    for i in range(2):
        textured(i).save(tmp_path / f"PXL_{i}.RAW-01.COVER.jpg")
        (tmp_path / f"PXL_{i}.RAW-02.ORIGINAL.dng").write_bytes(b"II*\0")
    capture, warning = told(tmp_path)
    assert len(capture.frames) == 2 and "RAW beside a developed photo" in warning


@pytest.mark.parametrize("name", ["GS010001.360", "VID.insv", "CAM.OSV"])
def test_videos_of_360_degree_cameras_are_named(name: str, tmp_path: Path) -> None:
    for i in range(2):
        textured(i).save(tmp_path / f"{i}.jpg")
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp41")
    capture, warning = told(tmp_path)
    assert capture.left_out == (name,) and "recon does not read such files" in warning


@pytest.mark.parametrize("orientation", range(1, 9))
def test_mirrored_photos_are_told(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    textured(0).save(tmp_path / "a.jpg", exif=exif)
    textured(1).save(tmp_path / "b.jpg")
    _, warning = told(tmp_path)
    expected = "1 of 2 photos are mirrored by EXIF, which is not applied"
    assert (expected in warning) == (orientation in (2, 4, 5, 7))


def round_texture(seed: int, width: int = 800) -> Image.Image:
    """Return an image of 2:1 whose sides meet."""
    noise = np.random.default_rng(seed).normal(size=(width // 2, width))
    rows, columns = np.fft.fftfreq(width // 2), np.fft.fftfreq(width)
    smooth = np.exp(-(rows[:, None] ** 2 + columns**2) * 5 * 20**2)
    image = np.fft.ifft2(np.fft.fft2(noise) * smooth).real
    scaled = 255 * (image - image.min()) / np.ptp(image)
    return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")


def test_panoramas_without_metadata_are_told(tmp_path: Path) -> None:
    for i in range(2):
        round_texture(i).save(tmp_path / f"{i}.jpg", quality=95)
    _, warning = told(tmp_path)
    assert "2 of 2 photos" in warning and "with sides that meet: the photo is a panorama" in warning
    whole = round_texture(3)
    for name, image in {
        "half.png": round_texture(4, 1600).crop((0, 0, 800, 400)),
        "tall.png": whole.crop((0, 0, 800, 380)),
        "plain.png": Image.new("RGB", (800, 400), "grey"),
    }.items():
        image.save(tmp_path / name)
        assert not looks_like_panorama(tmp_path / name)


def test_frames_that_are_panoramas_are_told(tmp_path: Path, cache: Path) -> None:
    codes = np.asarray(round_texture(0), np.float64) / 255
    write_video(tmp_path / "a.mp4", "libx264", codes, (1, 1, 1))
    _, warning = told(tmp_path / "a.mp4")
    assert "with sides that meet, as panoramas" in warning


def record3d(cameras: list[Shot], folder: str) -> dict:
    """Return the metadata of Record3D's app, with a focal length of each photo."""
    poses = []
    for shot in cameras:
        w, x, y, z = shot.quat
        poses.append([w, -z, y, x, *shot.c2w[:3, 3].tolist()])
    first = cameras[0]
    K = np.array([[first.fx, 0, first.cx], [0, first.fx, first.cy], [0, 0, 1]])
    document = {"K": K.T.ravel().tolist(), "w": first.width, "h": first.height, "poses": poses}
    if folder == "rgbd":
        rows = [[150.0 + i, 150.0 + i, 80.0, 60.0] for i in range(len(cameras))]
        document["perFrameIntrinsicCoeffs"] = rows
    return document


@pytest.mark.parametrize("packed", [False, True])
def test_record3d_of_the_app(packed: bool, tmp_path: Path, cache: Path) -> None:
    cameras = shots(centered=True)
    write_images(tmp_path, cameras)
    (tmp_path / "images").rename(tmp_path / "rgbd")
    (tmp_path / "metadata").write_text(json.dumps(record3d(cameras, "rgbd")))
    source = tmp_path
    if packed:
        source = tmp_path / "scan.r3d"
        with zipfile.ZipFile(source, "w") as archive:
            for path in [tmp_path / "metadata", *(tmp_path / "rgbd").iterdir()]:
                archive.write(path, path.relative_to(tmp_path).as_posix())
            archive.writestr("icon", b"\xff\xd8\xff")
    capture, warning = told(source)
    assert f"{source}: the cameras of metadata are used" in warning and str(cache) not in warning
    for i, (frame, shot) in enumerate(zip(capture.frames, cameras, strict=True)):
        assert frame.camera is not None and frame.camera.K[0, 0] == 150 + i
        np.testing.assert_allclose(frame.camera.viewmat, shot.viewmat, atol=1e-9)


@pytest.mark.parametrize("strict", [False, True])
def test_warnings_of_archives_name_the_archive(strict: bool, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "scan.zip"
    textured(0).save(tmp_path / "a.jpg")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
            archive.write(tmp_path / "a.jpg", name)
    if strict:
        with (
            pytest.raises(InputError, match=r"scan\.zip: the photos in .*strict=True"),
            strictly(True),
        ):
            load_capture(path)
        return
    with pytest.warns(LeftOutWarning, match=r"scan\.zip: the photos in the folder itself are used"):
        load_capture(path)


@pytest.mark.parametrize(
    ("ratio", "size"),
    [((4, 3), (256, 128)), ((8, 9), (192, 144)), ((1, 1), (192, 128)), ((0, 1), (192, 128))],
)
def test_pixels_that_are_not_square(
    ratio: tuple[int, int], size: tuple[int, int], tmp_path: Path, cache: Path
) -> None:
    av = pytest.importorskip("av")
    image = textured(0).resize((192, 128))
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        if ratio[0]:
            stream.codec_context.sample_aspect_ratio = Fraction(*ratio)
        for _ in range(4):
            output.mux(stream.encode(av.VideoFrame.from_image(image)))
        output.mux(stream.encode(None))
    capture, warning = told(tmp_path / "a.mp4")
    assert image_size(capture.frames[0].image_path) == size
    assert ("times as wide as high" in warning) == (size != (192, 128))


def test_pixels_of_rotated_videos() -> None:
    """The layout is that of the frame before it is rotated."""
    image = np.zeros((192, 128, 3), np.uint8)
    image[:, ::2] = 200
    found = Raster(4 / 3, interlaced=True).square(image, rotated=True)
    assert found.shape == (256, 128, 3) and found.min() == 200


def test_interlaced_videos(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mts"
    one, two = (np.asarray(textured(i, (192, 128)).convert("L").convert("RGB")) for i in (0, 1))
    woven = one.copy()
    woven[1::2] = two[1::2]
    with av.open(str(path.with_suffix(".ts")), "w") as output:
        options = {"flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1:crf=8"}
        stream = output.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for _ in range(4):
            output.mux(stream.encode(av.VideoFrame.from_image(Image.fromarray(woven))))
        output.mux(stream.encode(None))
    path.with_suffix(".ts").rename(path)
    capture, warning = told(path)
    assert "is interlaced; every second row of its frames is used" in warning
    found = np.asarray(Image.open(capture.frames[0].image_path), np.float64)
    assert found.shape == one.shape
    errors = [np.abs(found - image).mean() for image in (one, two, woven)]
    assert errors[0] < 0.3 * min(errors[1:])
    # OpenCV alone gives frames that were never written to.
    monkeypatch.setattr("recon.capture.video_frames._pyav", lambda: None)
    with pytest.raises(InputError, match=r"interlaced videos are without PyAV; pip install"):
        load_capture(path)
