"""Photos under the names, folders and encodings that other tools and systems give them."""

import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from capture_files import shots, write_colmap_capture, write_llff_capture, write_transforms_capture
from PIL import Image

from recon.capture import Capture, load_capture, load_views
from recon.capture.cache import content_key
from recon.capture.names import find_photos, portable
from recon.cli.main import main
from recon.errors import LeftOutWarning, ReconError, ReconWarning
from recon.reporting import say

PINHOLE = [150.0, 154.0, 87.0, 55.0]


def photos(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(root / name, format="PNG")


def found(root: Path, *names: str, folders: tuple[str, ...] = (".",)) -> list[str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReconWarning)
        paths = find_photos(root, names, "cameras", folders)
    return [None if path is None else path.relative_to(root).as_posix() for path in paths]


SAME = ["images/1.jpg", "images/2.jpg"]


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["images\\1.jpg", "images\\2.jpg"], SAME),
        (["C:\\Users\\A B\\scan\\images\\1.jpg", "C:\\Users\\A B\\scan\\images\\2.jpg"], SAME),
        (["/home/x/scan/images/1.jpg", "/home/x/scan/images/2.jpg"], SAME),
        (["/data/frames/1.jpg", "/data/frames/2.jpg"], SAME),
        (["../data/images/1.jpg", "../data/images/2.jpg"], SAME),
        (["IMAGES/1.JPG", "Images/2.Jpg"], SAME),
        (["images/1", "images/2"], SAME),
        (["./images/1.heic", "./images/2.heic"], SAME),
        (["1.jpg", "2.jpg"], SAME),
        (["file:///tmp/images/1.jpg", "file:///tmp/images/2.jpg"], SAME),
        (["images/a%20b.jpg"], ["images/a b.jpg"]),
        (["images/u\u0308.jpg"], ["images/\u00fc.jpg"]),
        (["a/1.jpg", "b/1.jpg"], ["photos/a/1.jpg", "photos/b/1.jpg"]),
        (["/x/a/1.jpg", "/x/b/1.jpg"], ["photos/a/1.jpg", "photos/b/1.jpg"]),
        (["images/1.jpg"], ["images_4/1.jpg"]),
        (["1.jpg"], ["input/1.jpg"]),
    ],
)
def test_names_of_other_systems(tmp_path: Path, names: list[str], files: list[str]):
    photos(tmp_path, *files)
    assert found(tmp_path, *names) == files


def test_never_another_photo(tmp_path: Path):
    """A missing photo is not replaced by one of the same name in another folder."""
    photos(tmp_path, "images/a/1.jpg", "images/b/2.jpg", "images/c/1.jpg", "masks/b/1.jpg")
    assert found(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg") == [
        "images/a/1.jpg",
        None,
        "images/b/2.jpg",
    ]
    photos(tmp_path, "images_2/a/9.jpg", "old/9.jpg")
    assert found(tmp_path, "a/1.jpg", "b/2.jpg", "a/9.jpg")[2] is None
    photos(tmp_path, "images/x.png")
    assert found(tmp_path, "images/x.png", "images/x.jpg") == ["images/x.png", None]


def test_largest_copies_are_preferred(tmp_path: Path):
    photos(tmp_path, "images_8/1.jpg", "images_4/1.jpg", "thumbs/1.jpg")
    assert found(tmp_path, "1.jpg") == ["images_4/1.jpg"]
    photos(tmp_path, "images/1.jpg")
    assert found(tmp_path, "1.jpg") == ["images/1.jpg"]


def test_links_in_a_circle(tmp_path: Path):
    photos(tmp_path, "images/1.jpg")
    (tmp_path / "images" / "again").symlink_to(tmp_path)
    assert found(tmp_path, "1.JPG") == ["images/1.jpg"]


def test_files_that_are_there_and_not_read(tmp_path: Path):
    photos(tmp_path, "images/a.jpg")
    (tmp_path / "images" / "b.exr").write_bytes(b"x")
    with pytest.warns(
        ReconWarning, match=r"1 of 2 photos are missing, or not read \(\.jpg.*b\.exr"
    ):
        assert find_photos(tmp_path, ["images/a.jpg", "images/b.exr"], "cameras")[1] is None
    with pytest.raises(ReconError, match=r"cameras names files that recon does not read: b\.exr"):
        find_photos(tmp_path, ["b.exr"], "cameras", (".", "images"))


def test_all_missing_is_an_error(tmp_path: Path):
    with pytest.raises(ReconError, match=r"images that do not exist, .*: a\.jpg, b\.jpg; put"):
        find_photos(tmp_path, ["a.jpg", "b.jpg"], "cameras")
    with pytest.raises(ReconError, match="do not exist"):
        find_photos(tmp_path, ["a\0.jpg", 5000 * "b", ""], "cameras")


def colmap(folder: Path) -> None:
    write_colmap_capture(folder, shots(centered=False), "PINHOLE", PINHOLE)


def transforms(folder: Path) -> None:
    write_transforms_capture(folder, shots(centered=False))


def llff(folder: Path) -> None:
    write_llff_capture(folder, shots(centered=True))


def told(folder: Path) -> tuple[Capture, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        capture = load_capture(folder)
    return capture, "\n".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("write", [colmap, transforms])
def test_missing_photos_are_named(tmp_path: Path, write: Callable[[Path], None]):
    write(tmp_path)
    (tmp_path / "images" / "1.png").unlink()
    capture, warning = told(tmp_path)
    assert [frame.image_path.name for frame in capture.frames] == ["0.png", "2.png"]
    assert "1 of 3 photos are missing and left out: " in warning and "1.png" in warning


@pytest.mark.parametrize("write", [colmap, transforms, llff])
@pytest.mark.parametrize("folder", ["Images", "input", "images_2"])
def test_folders_of_photos(tmp_path: Path, write: Callable[[Path], None], folder: str):
    write(tmp_path)
    expected = load_views(load_capture(tmp_path).frames, 80)
    (tmp_path / "images").rename(tmp_path / folder)
    if folder == "images_2":
        for path in (tmp_path / folder).iterdir():
            Image.open(path).resize((80, 60)).save(path)
    capture, _ = told(tmp_path)
    assert {frame.image_path.parent.name for frame in capture.frames} == {folder}
    views = load_views(capture.frames, 80)
    np.testing.assert_allclose(views.cameras.Ks, expected.cameras.Ks, rtol=1e-5)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("write", [colmap, transforms])
def test_encodings(tmp_path: Path, write: Callable[[Path], None], encoding: str):
    write(tmp_path)
    (tmp_path / "images" / "1.png").rename(tmp_path / "images" / "h\u00f6he.png")
    for path in [*tmp_path.glob("*.json"), *tmp_path.glob("sparse/0/*.txt")]:
        text = path.read_text().replace("1.png", "h\u00f6he.png")
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    capture, warning = told(tmp_path)
    assert [frame.image_path.name for frame in capture.frames].count("h\u00f6he.png") == 1
    assert len(capture.frames) == 3 and not warning


def oriented_photo(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20), (90, 90, 90)).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("sized", [True, False])
def test_cameras_of_the_photo_as_shown(tmp_path: Path, orientation: int, sized: bool):
    oriented_photo(tmp_path / "a.jpg", orientation)
    oriented_photo(tmp_path / "b.jpg", 1)
    frame = {"fl_x": 30, "cx": 10, "cy": 20, "transform_matrix": np.eye(4).tolist()}
    entries = [{**frame, "file_path": "a.jpg"}, {**frame, "file_path": "b.jpg", "cx": 20, "cy": 10}]
    if sized:
        entries[0].update(w=20, h=40)
        entries[1].update(w=40, h=20)
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": entries}))
    capture, warning = told(tmp_path)
    assert "1 of 2 photos are rotated as EXIF says" in warning and "a.jpg" in warning
    assert [frame.oriented for frame in capture.frames] == [True, False]
    views = load_views([capture.frames[0]], 40)
    assert views.images.shape == (1, 3, 40, 20)
    assert views.cameras.Ks[0, :2, 2].tolist() == [10, 20]


@pytest.mark.parametrize(("orientation", "size"), [(3, (40, 20)), (2, (40, 20)), (6, (30, 30))])
def test_doubtful_orientations_are_told(tmp_path: Path, orientation: int, size: tuple[int, int]):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(tmp_path / "a.jpg", exif=exif)
    frame = {"file_path": "a.jpg", "fl_x": 30, "transform_matrix": np.eye(4).tolist()}
    document = {"w": size[0], "h": size[1], "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    capture, warning = told(tmp_path)
    assert not capture.frames[0].oriented
    assert "photos as they are stored: a.jpg; if the scene is wrong, rotate" in warning


@pytest.mark.parametrize("write", [colmap, transforms])
def test_photos_without_cameras_are_named(tmp_path: Path, write: Callable[[Path], None]):
    write(tmp_path)
    photos(tmp_path, "images/extra.jpg", "images/0_mask.png")
    capture, warning = told(tmp_path)
    assert len(capture.frames) == 3
    assert "left out 1 photo of" in warning and "extra.jpg: the capture has no cameras" in warning


def test_largest_model_is_used(tmp_path: Path):
    colmap(tmp_path)
    write_colmap_capture(tmp_path, shots(centered=False, count=2), "PINHOLE", PINHOLE, "sparse/1")
    write_colmap_capture(
        tmp_path, shots(centered=False, count=1), "PINHOLE", PINHOLE, "distorted/sparse/0"
    )
    (tmp_path / "sparse" / "0").rename(tmp_path / "sparse" / "2")
    capture, warning = told(tmp_path)
    assert len(capture.frames) == 3
    expected = "sparse/2 (3 photos) is used, and not sparse/1 (2 photos), distorted/sparse/0 (1"
    assert expected in warning


def without_point_lines(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(lines[::2]) + "\n"


def spaced(text: str) -> str:
    return text.replace(" 0.png", " a  photo (0).png").replace(" 2.png", " 7 8 9.png")


def without_points(text: str) -> str:
    lines = text.splitlines()
    return "\n\n".join(lines[::2]) + "\n\n"


@pytest.mark.parametrize(
    "model",
    [
        "sparse",
        "dense/0/sparse",
        "dense/sparse",
        "distorted/sparse/0",
        "colmap/sparse/0",
        "undistorted",
    ],
)
def test_folders_of_models(tmp_path: Path, model: str):
    write_colmap_capture(tmp_path, shots(centered=False), "PINHOLE", PINHOLE, model)
    assert len(load_capture(tmp_path).frames) == 3


@pytest.mark.parametrize("change", [without_point_lines, spaced, without_points, str.upper])
def test_text_models_of_other_tools(tmp_path: Path, change: Callable[[str], str]):
    colmap(tmp_path)
    expected = load_capture(tmp_path).frames
    sparse = tmp_path / "sparse" / "0"
    (sparse / "images.txt").write_text(change((sparse / "images.txt").read_text()))
    if change is spaced:
        (tmp_path / "images" / "0.png").rename(tmp_path / "images" / "a  photo (0).png")
        (tmp_path / "images" / "2.png").rename(tmp_path / "images" / "7 8 9.png")
    else:
        (sparse / "points3D.txt").unlink()
        for path in list(sparse.iterdir()):
            path.rename(path.with_name(path.name.capitalize()))
    frames, _ = told(tmp_path)
    poses = {tuple(f.camera.viewmat.flatten().tolist()) for f in frames.frames if f.camera}
    assert poses == {tuple(f.camera.viewmat.flatten().tolist()) for f in expected if f.camera}
    assert all((f.points is None) == (change is not spaced) for f in frames.frames)


@pytest.mark.parametrize("write", [transforms, llff])
def test_cameras_in_a_subfolder(tmp_path: Path, write: Callable[[Path], None]):
    write(tmp_path / "a")
    capture, warning = told(tmp_path)
    assert capture.has_cameras and "no cameras itself; those of a/" in warning
    write(tmp_path / "b")
    capture, warning = told(tmp_path)
    assert not capture.has_cameras and "not read from" in warning and "pass the folder" in warning


@pytest.mark.parametrize("write", [colmap, transforms, llff])
def test_cameras_above_the_folder_of_photos(tmp_path: Path, write: Callable[[Path], None]):
    write(tmp_path)
    capture, warning = told(tmp_path / "images")
    assert not capture.has_cameras
    assert "are estimated from the photos, and not read from" in warning


@pytest.mark.parametrize("name", ["transforms_test.json", "cameras of July.JSON"])
def test_cameras_of_any_name_above_the_folder_of_photos(tmp_path: Path, name: str):
    transforms(tmp_path)
    (tmp_path / "transforms.json").rename(tmp_path / name)
    capture, warning = told(tmp_path / "images")
    assert not capture.has_cameras and f"not read from {tmp_path / name}; pass" in warning


def test_photos_beside_the_folder_of_the_cameras(tmp_path: Path):
    """ScanNet++ has its transforms.json in a folder of its own, beside that of the photos."""
    path = write_transforms_capture(tmp_path, shots(centered=False))
    document = json.loads(path.read_text())
    for entry in document["frames"]:
        entry["file_path"] = Path(entry["file_path"]).name
    path.unlink()
    (tmp_path / "images").rename(tmp_path / "resized")
    (tmp_path / "nerfstudio").mkdir()
    (tmp_path / "nerfstudio" / "transforms.json").write_text(json.dumps(document))
    with pytest.warns(ReconWarning, match=r"0\.png is resized/0\.png"):
        capture = load_capture(tmp_path)
    assert len(capture.frames) == 3 and capture.has_cameras
    # A folder above that is not given is not searched.
    with pytest.raises(ReconError, match="do not exist"):
        load_capture(tmp_path / "nerfstudio")


def test_equal_names_in_several_folders(tmp_path: Path):
    """It is not clear which camera belongs to which of the files."""
    colmap(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir()
    one = (tmp_path / "images" / "1.png").read_bytes()
    (tmp_path / "images" / "1.png").unlink()
    for name in ("a", "b"):
        (tmp_path / "images" / name / "1.png").write_bytes(one)
    path = tmp_path / "sparse" / "0" / "images.txt"
    path.write_text(path.read_text().replace("2.png", "1.png"))
    with pytest.warns(LeftOutWarning, match=r"not clear which is which: 1\.png"):
        capture = load_capture(tmp_path)
    assert [frame.image_path.name for frame in capture.frames] == ["0.png"]
    # A file at exactly this path is the one.
    (tmp_path / "images" / "1.png").write_bytes(one)
    capture, _ = told(tmp_path)
    assert [frame.image_path.name for frame in capture.frames] == ["0.png", "1.png"]


def test_the_folder_of_a_model_leads_to_its_photos(tmp_path: Path):
    colmap(tmp_path)
    capture, warning = told(tmp_path / "sparse" / "0")
    assert capture.root == tmp_path and len(capture.frames) == 3 and not warning


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_names_that_are_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Archives of Windows, unpacked on Linux, give such names."""
    name = os.fsdecode(b"caf\xe9.png")
    folder = tmp_path / os.fsdecode(b"f\xf6lder")
    folder.mkdir()
    Image.new("RGB", (64, 48), (9, 99, 199)).save(folder / "a.png")
    (folder / "a.png").rename(folder / name)
    monkeypatch.setenv("RECON_CACHE", str(tmp_path / "cache"))
    assert [frame.name for frame in load_capture(folder).frames] == [name]
    assert portable(name) == "caf%E9.png"
    assert portable("é 😀 %E9.png") == "é 😀 %E9.png"
    assert content_key([(name, folder / name)]) != content_key([("a.png", folder / name)])
    main(["info", str(folder)])
    assert "\\udcf6lder" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer := io.BytesIO(), encoding="ascii"))
    say("é 😀")
    assert buffer.getvalue() == b"\\xe9 \\U0001f600\n"
