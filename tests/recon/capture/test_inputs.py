"""Several inputs, archives, patterns and broken files: every photo is used or named."""

import json
import os
import random
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from capture_files import shots, write_colmap_capture, write_llff_capture, write_transforms_capture
from photo_generators import textured

from recon import ReconError
from recon.capture import Capture, load_capture, load_views
from recon.capture.archive import told_as_archive
from recon.cli import main as cli
from recon.errors import InputError, LeftOutWarning, ReconWarning, strictly, warn


def write_photos(folder: Path, count: int, suffix: str = ".jpg") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}{suffix}" for i in range(count)]
    for i, file in enumerate(files):
        textured(i).save(file)
    return files


def write_video(path: Path, frames: int = 4) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for i in range(frames):
        writer.write(np.asarray(textured(i)))
    writer.release()
    return path


def cut(path: Path, fraction: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])


def quietly(source: object) -> tuple[Capture, str]:
    """Read a capture, and return it with all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ReconWarning)
        capture = load_capture(source)  # type: ignore[arg-type]
    return capture, "\n".join(str(w.message) for w in caught)


def names(capture: Capture) -> list[str]:
    return [frame.name for frame in capture.frames]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp", ".avif"])
def test_one_broken_photo_leaves_the_others(suffix: str, tmp_path: Path) -> None:
    files = write_photos(tmp_path, 3, suffix)
    cut(files[1], 0.6)
    capture, text = quietly(tmp_path)
    assert names(capture) == [files[0].name, files[2].name]
    assert capture.left_out == (files[1].name,) and f"{files[1].name}: " in text
    with pytest.raises(ReconError, match=r"strict=True"), strictly(True):
        load_capture(tmp_path)


def test_all_kinds_of_unusable_files_are_named(tmp_path: Path) -> None:
    files = write_photos(tmp_path, 8)
    files[1].write_bytes(b"")
    files[2].write_text("no image")
    textured(9, (3, 3)).save(files[3])
    files[4].write_bytes(files[4].read_bytes()[:100])
    shutil.copy(files[0], tmp_path / "IMG_1")
    (tmp_path / "a.psd").write_bytes(b"8BPS")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "._0.jpg").write_bytes(b"resource fork")
    os.mkfifo(tmp_path / "8.jpg")
    (tmp_path / "9.jpg").symlink_to(tmp_path / "gone.jpg")
    capture, text = quietly(tmp_path)
    assert names(capture) == ["0.jpg", "5.jpg", "6.jpg", "7.jpg"]
    lost = {"1.jpg", "2.jpg", "3.jpg", "4.jpg", "8.jpg", "9.jpg", "IMG_1", "a.psd"}
    assert set(capture.left_out) == lost and all(name in text for name in lost)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    for file in write_photos(tmp_path, 2):
        cut(file)
    with pytest.raises(InputError, match=r"cannot read any photo of .*: 0\.jpg, 1\.jpg: the file"):
        load_capture(tmp_path)


@pytest.mark.parametrize("kind", ["transforms", "colmap", "llff"])
@pytest.mark.parametrize("damage", ["empty", "text", "inside"])
def test_broken_photos_of_captures_with_cameras(kind: str, damage: str, tmp_path: Path) -> None:
    cameras = shots(centered=True)
    if kind == "transforms":
        write_transforms_capture(tmp_path, cameras)
    elif kind == "colmap":
        write_colmap_capture(tmp_path, cameras, "PINHOLE", [150.0, 150.0, 80.0, 60.0])
    else:
        write_llff_capture(tmp_path, cameras)
    photo = tmp_path / "images" / "1.png"
    data = photo.read_bytes()
    # Pixels that are damaged show only when they are decoded.
    middle = data[:-60] + bytes(20) + data[-40:]
    photo.write_bytes({"empty": b"", "text": b"hello", "inside": middle}[damage])
    with pytest.warns(LeftOutWarning, match=r"left out .*1\.png: "):
        views = load_views(tmp_path, 64)
    assert len(views.cameras) == 2 and not any("1.png" in name for name in views.names)


def test_several_files_folders_and_patterns(tmp_path: Path) -> None:
    files = write_photos(tmp_path / "a", 3)
    others = write_photos(tmp_path / "b c", 2, ".png")
    assert names(load_capture([files[0], *others])) == ["a/0.jpg", "b c/0.png", "b c/1.png"]
    assert len(load_capture([tmp_path / "a", tmp_path / "b c"]).frames) == 5
    assert names(load_capture(tmp_path / "a" / "[01].jpg")) == ["0.jpg", "1.jpg"]
    assert len(load_capture(tmp_path / "**" / "?.png").frames) == 2
    assert names(load_capture(files[2])) == ["2.jpg"]
    (tmp_path / "a" / "list.txt").write_text("x")
    capture, text = quietly(sorted((tmp_path / "a").iterdir()))
    assert len(capture.frames) == 3 and "list.txt: no photo" in text
    for name in ("0.mask.png", "1_depth.png", "10.jpg"):
        shutil.copy(files[0], tmp_path / "a" / name)
    for sources in (tmp_path / "a" / "*.*g", sorted((tmp_path / "a").glob("*.*g"))):
        capture, text = quietly(sources)
        assert sorted(names(capture)) == ["0.jpg", "1.jpg", "10.jpg", "2.jpg"]
        assert "1_depth.png: beside a photo" in text
    assert names(load_capture(tmp_path / "a" / "*.jpg"))[-1] == "10.jpg"
    for wrong, reason in (("*.gif", "no file fits"), ("z.jpg", "not found")):
        with pytest.raises(InputError, match=reason):
            load_capture([files[0], tmp_path / wrong])


def test_folders_of_videos(tmp_path: Path, cache: Path) -> None:
    video = write_video(tmp_path / "walk.MP4")
    capture, text = quietly(tmp_path)
    assert capture.kind == "video" and len(capture.frames) == 4 and "walk.MP4" in text
    (tmp_path / "sub").mkdir()
    video.rename(tmp_path / "sub" / "walk.MP4")
    assert load_capture(tmp_path).kind == "video"
    write_video(tmp_path / "sub" / "two.mp4")
    with pytest.raises(InputError, match=r"2 videos, two\.mp4, walk\.MP4"):
        load_capture(tmp_path)
    write_photos(tmp_path / "sub", 2)
    capture, text = quietly(tmp_path / "sub")
    assert len(capture.frames) == 2 and "two.mp4, walk.MP4: a video beside photos" in text
    assert set(capture.left_out) == {"two.mp4", "walk.MP4"}


def test_archives(tmp_path: Path, cache: Path) -> None:
    files = write_photos(tmp_path / "photos", 3)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as output:
        for file in files:
            output.write(file, f"my photos\\{file.name}")
        for name in ("../../out.jpg", "/etc/out.jpg", "C:\\out.jpg", "a/../../out.jpg"):
            output.writestr(name, files[0].read_bytes())
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        output.writestr(link, str(files[0]))
        output.writestr("__MACOSX/._0.jpg", b"x")
    capture, text = quietly(archive)
    assert names(capture) == ["0.jpg", "1.jpg", "2.jpg"] and capture.title == archive
    assert len(capture.left_out) == 5 and "../../out.jpg" in text
    assert not list(tmp_path.rglob("out.jpg")) and not list(cache.rglob("out.jpg"))
    assert quietly(archive)[1] == text
    assert len(load_capture([archive, files[0]]).frames) == 4


def test_archives_of_captures_with_cameras(tmp_path: Path, cache: Path) -> None:
    write_transforms_capture(tmp_path / "scene", shots(centered=True))
    shutil.make_archive(str(tmp_path / "scene"), "zip", tmp_path / "scene")
    capture = load_capture(tmp_path / "scene.zip")
    assert capture.kind == "transforms" and capture.has_cameras


def test_archives_that_are_no_photos(tmp_path: Path, cache: Path, monkeypatch) -> None:
    files = write_photos(tmp_path, 2)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as output:
        output.writestr("a.bmp", bytes(4_000_000))
    monkeypatch.setattr("recon.capture.archive.MAX_BYTES", 1_000_000)
    with pytest.raises(InputError, match=r"bomb\.zip would unpack to"):
        load_capture(bomb)
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as output:
        for file in files:
            output.write(file, file.name)
    data = bytearray(whole.read_bytes())
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut\.zip: it is no zip archive, or cut short"):
        load_capture(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "names.zip", "w") as output:
        output.writestr("Foto-é.jpg", b"")  # called UTF-8, but in another encoding
    named = (tmp_path / "names.zip").read_bytes().replace("é".encode(), b"\xe9-")
    (tmp_path / "names.zip").write_bytes(named)
    with pytest.raises(InputError, match=r"names\.zip .*can't decode.*unpack it"):
        load_capture(tmp_path / "names.zip")
    # One damaged entry: its checksum is wrong.
    data[200] ^= 255
    (tmp_path / "damaged.zip").write_bytes(data)
    capture, text = quietly(tmp_path / "damaged.zip")
    assert names(capture) == ["1.jpg"] and "0.jpg: damaged" in text
    # The flag of encryption in both headers of the first entry.
    central = data.find(b"PK\1\2")
    for position in (6, central + 8):
        struct.pack_into("<H", data, position, 1)
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"secret\.zip is encrypted"):
        load_capture(tmp_path / "secret.zip")


def test_command_line(tmp_path: Path, capsys) -> None:
    """The smallest run of it: one photo, which needs no solver, beside a broken one."""
    first, second = write_photos(tmp_path, 2)
    cut(second)
    options = ["--resolution", "32", "--refine", "0", "--model", "constant-depth"]
    output = ["-o", f"{tmp_path}/o.ply", *options]
    with pytest.raises(SystemExit) as end:
        cli.main([str(first), str(second), *output, "--strict"])
    assert end.value.code == 2 and "--strict is given" in capsys.readouterr().err
    cli.main([str(first), str(second), *output, "--json"])
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["views_used"] == ["0.jpg"] and result["left_out"] == ["1.jpg"]
    assert result["views_found"] == 2 and len(result["warnings"]) >= 1
    assert "1.jpg" in result["warnings"][0] and printed.err.count("1.jpg") == 1


def test_mutated_folders_lose_no_photo_silently(tmp_path: Path, cache: Path) -> None:
    """Whatever is done to the files, each photo is used or named, or there is one line."""
    originals = write_photos(tmp_path / "originals", 4)
    for seed in range(25):
        folder, rng = tmp_path / f"{seed}", random.Random(seed)
        shutil.copytree(tmp_path / "originals", folder)
        for name in [file.name for file in originals]:
            mutate(folder / name, rng)
        found = {
            file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
        }
        try:
            capture, text = quietly(folder)
            views = [frame.image_path.relative_to(folder).as_posix() for frame in capture.frames]
        except ReconError as error:
            assert "\n" not in str(error) and len(str(error)) < 900
            continue
        for path in found - set(views):
            assert Path(path).name in text or path.split("/")[0] + "/ (" in text, (seed, path, text)


def mutate(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    kind = rng.randrange(8)
    if kind == 1:
        file.write_bytes(data[: rng.randrange(len(data))])
    elif kind == 2:
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
    elif kind == 3:
        file.rename(file.with_suffix(rng.choice([".png", ".JPEG", ".heic", ".dng", ".mp4", ""])))
    elif kind == 4:
        (file.parent / "sub").mkdir(exist_ok=True)
        file.rename(file.parent / "sub" / file.name)
    elif kind == 5:
        file.rename(file.with_name(f"ü {file.stem} (1){file.suffix}"))
    elif kind == 6:
        # The header of the EXIF data, or what stands there instead.
        data[2:2] = b"\xff\xe1\x00\x20Exif\0\0II*\0" + bytes(rng.randrange(256) for _ in range(20))
        file.write_bytes(data)


def test_warnings_of_an_archive_are_told_before_an_error_too() -> None:
    folder, path = Path("/cache/1"), Path("photos.zip")
    for error in (InputError("/cache/1/a.jpg is no photo"), OSError("gone")):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(type(error)), told_as_archive(folder, path):
                warn("/cache/1/b.jpg is dark", LeftOutWarning)
                warnings.warn("of a library", UserWarning, stacklevel=1)
                raise error
        assert [str(each.message) for each in told] == ["photos.zip/b.jpg is dark", "of a library"]
        assert [each.category for each in told] == [LeftOutWarning, UserWarning]
        assert str(error) in ("photos.zip/a.jpg is no photo", "gone")
