"""What a folder holds, plain photo folders, LLFF's and COLMAP's own errors."""

import inspect
import json
import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from capture_files import (
    POINTS,
    llff_table,
    shots,
    write_colmap_capture,
    write_llff_capture,
    write_transforms_capture,
)
from PIL import Image

from recon.capture import load_capture
from recon.errors import LeftOutWarning, ReconError, ReconWarning, strictly

PINHOLE = [150.0, 154.0, 87.0, 55.0]


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path, format="PNG")


def test_order_of_layouts(tmp_path: Path):
    cameras = shots(centered=True)
    write_llff_capture(tmp_path, cameras)
    assert load_capture(tmp_path).kind == "llff"
    write_colmap_capture(tmp_path, cameras, "PINHOLE", PINHOLE)
    with pytest.warns(ReconWarning, match="model in sparse/0 is used, and not poses_bounds.npy"):
        assert load_capture(tmp_path).kind == "colmap"
    write_transforms_capture(tmp_path, cameras)
    with pytest.warns(ReconWarning, match=r"transforms.json is used, and not the COLMAP .*npy"):
        assert load_capture(tmp_path).kind == "transforms"


def test_llff_from_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_llff_capture(Path("fern"), shots(centered=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        capture = load_capture("fern")
    assert [frame.name for frame in capture.frames] == [f"images/{i}.png" for i in range(3)]


@pytest.mark.parametrize(
    "names",
    [
        ("transform_train.json", "transform_val.json"), ("transforms_test.json",),
        ("cameras_centered.JSON", "notes.json"), ("images/cams.json",),
    ],
)  # fmt: skip
def test_cameras_in_files_of_other_names(names: tuple[str, ...], tmp_path: Path):
    write_transforms_capture(tmp_path, shots(centered=True))
    document = json.loads((tmp_path / "transforms.json").read_text())
    (tmp_path / "transforms.json").unlink()
    for name in names[1:]:
        (tmp_path / name).write_text("{" if name.startswith("notes") else json.dumps(document))
    if "/" in names[0]:
        for frame in document["frames"]:
            frame["file_path"] = Path(frame["file_path"]).name
    (tmp_path / names[0]).write_text(json.dumps(document))
    with pytest.warns(ReconWarning, match=f"{names[0]} are used") as found:
        capture = load_capture(tmp_path)
    assert capture.kind == "transforms"
    assert len(capture.frames) == 3
    others = [name for name in names[1:] if not name.startswith("notes")]
    assert all(any(name in str(warning.message) for warning in found) for name in others)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("meta_data.json", "meta_data.json"), ("frame_00000.json", "frame_00000.json"),
        ("pose/0.txt", "pose/"), ("traj.txt", "traj.txt"), ("cams/000_cam.txt", "cams/"),
        ("camera/0.json", "camera/"), ("groundtruth.txt", "groundtruth.txt"),
        ("p_calibrated_camera_parameters.txt", "p_calibrated_camera_parameters.txt"),
        ("dino_par.txt", "dino_par.txt"), ("cameras.abc", "cameras.abc"), ("a.opf", "a.opf"),
        ("opensfm/reconstruction.json", "opensfm/"), ("cam_poses.txt", "cam_poses.txt"),
        ("extrinsics.npy", "extrinsics.npy"), ("Camera Poses.yaml", "Camera Poses.yaml"),
    ],
)  # fmt: skip
def test_cameras_of_data_sets_are_named(name: str, told: str, tmp_path: Path):
    photo(tmp_path / "images" / "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.warns(ReconWarning, match=re.escape(f"cameras are not read: {told}; recon reads")):
        assert not load_capture(tmp_path).has_cameras


def test_cameras_of_one_photo_each_are_named_once(tmp_path: Path):
    for i in range(7):
        photo(tmp_path / f"frame-{i:06d}.color.png")
        (tmp_path / f"frame-{i:06d}.pose.txt").write_text("1 0 0 0")
    with pytest.warns(ReconWarning, match=r"not read: frame-\*\.pose\.txt; recon reads"):
        assert len(load_capture(tmp_path).frames) == 7
    # Words that only contain one of these are no cameras.
    for name in ("purposes.txt", "camping.json", "scam.txt", "notes.txt"):
        photo(tmp_path / "other" / "a.png")
        (tmp_path / "other" / name).write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReconWarning)
        load_capture(tmp_path / "other")


def test_photos_in_natural_order(tmp_path: Path):
    names = ["img10.jpg", "img2.JPEG", "img1.png", "B.heif", "a.TIF", "c.webp"]
    for name in [*names, ".hidden.jpg", "sub/deep.jpg"]:
        photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    capture = load_capture(tmp_path)
    assert (capture.kind, capture.has_cameras) == ("images", False)
    found = [frame.name for frame in capture.frames]
    assert found == ["a.TIF", "B.heif", "c.webp", "img1.png", "img2.JPEG", "img10.jpg"]


@pytest.mark.parametrize(
    "source", ["", " ", [""], [None], None, 3, [3], b"photos", {}, [["a.png"]], np.zeros((9, 9))]
)
def test_no_path_at_all(source: Any):
    with pytest.raises(ReconError, match="expected the path of photos") as caught:
        # Without the checks of types that tests make.
        inspect.unwrap(load_capture)(source)
    assert len(str(caught.value)) < 200


def test_photos_in_a_subfolder(tmp_path: Path):
    photo(tmp_path / "images" / "2²_b.png")
    photo(tmp_path / "images" / "2_a.png")
    assert [f.name for f in load_capture(tmp_path).frames] == ["images/2_a.png", "images/2²_b.png"]


def test_nothing_to_read(tmp_path: Path):
    with pytest.raises(ReconError, match=r"no images in .*: found no files, expected \.jpg, \.png"):
        load_capture(tmp_path)
    (tmp_path / "IMG_1").write_bytes(b"\xff\xd8\xff")
    bare = r"found only files without an extension \(IMG_1\), which photos need, expected \.jpg"
    with pytest.raises(ReconError, match=bare):
        load_capture(tmp_path)
    (tmp_path / "IMG_1").unlink()
    (tmp_path / "movie.xyz").write_text("x")
    with pytest.raises(ReconError, match=r"found only \.xyz files, expected .*\.heic"):
        load_capture(tmp_path)
    with pytest.raises(
        ReconError, match=r"recon does not read \.xyz files; expected a folder or \.zip of photos"
    ):
        load_capture(tmp_path / "movie.xyz")
    with pytest.raises(ReconError, match=r"input not found: .*gone"):
        load_capture(tmp_path / "gone")


def test_llff_smaller_copies(tmp_path: Path):
    """images_4 serves when images is absent, with K for its size."""
    path = write_llff_capture(tmp_path, shots(centered=True))
    (tmp_path / "images").rename(tmp_path / "images_4")
    for image in (tmp_path / "images_4").iterdir():
        Image.open(image).resize((40, 30)).save(image)
    frame = load_capture(path).frames[2]
    assert frame.name == "images_4/2.png" and frame.camera is not None
    expected = [[37.5, 0, 20], [0, 37.5, 15], [0, 0, 1]]
    np.testing.assert_allclose(frame.camera.K, expected, atol=1e-12)
    assert frame.depth_bounds == (1.0, 9.0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((3, 15)), r"has shape \(3, 15\); expected LLFF's \(photos, 17\)"),
        (np.zeros((3, 17), dtype=str), r"does not hold numbers"),
        (llff_table(shots(centered=True, count=2)), r"has 2 cameras but .*images holds 3 images"),
        (np.zeros((3, 17)), r"row 0: height and width must be above 0, found 0, 0"),
    ],
)
def test_bad_llff(tmp_path: Path, table: np.ndarray, message: str):
    path = write_llff_capture(tmp_path, shots(centered=True))
    np.save(path, table)
    with pytest.raises(ReconError, match=message) as caught:
        load_capture(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (1, 14, 0.0, r"row 1: the focal length must be above 0 px"),
        (1, 14, np.nan, r"row 1: focal length and principal point must be finite"),
        (1, 4, 0.0, r"row 1: height and width must be above 0, found 0, 160"),
        (1, 4, 160.0, r"1\.png is 160x120 px but its camera is for 160x160"),
        (1, 4, np.nan, r"row 1: height and width must be above 0"),
        (2, 3, np.inf, r"row 2: camera matrix has NaN or infinite values"),
        (2, 0, 5.0, r"row 2: camera matrix is off a rotation"),
        (0, 15, -1.0, r"row 0: expected 0 < near < far, found near -1, far 9"),
    ],
)
def test_bad_rows_of_llff(tmp_path: Path, row: int, column: int, value: float, message: str):
    path = write_llff_capture(tmp_path, shots(centered=True))
    table = llff_table(shots(centered=True))
    table[row, column] = value
    np.save(path, table)
    with pytest.warns(LeftOutWarning, match=message):
        capture = load_capture(tmp_path)
    assert len(capture.frames) == 2 and capture.left_out == (f"{row}.png",)


def set_pose(model: Path, row: int, values: str) -> None:
    """Replace QW to CAMERA_ID of an image of a text model."""
    lines = (model / "images.txt").read_text().splitlines()
    fields = lines[2 * row].split()
    lines[2 * row] = " ".join([fields[0], values, fields[-1]])
    (model / "images.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("0 0 0 0 0 0 0 1", "no rotation"),
        ("1 nan 0 0 0 0 0 1", "NaN"),
        ("1 0 0 0 -nan(ind) 0 0 1", "NaN"),
        ("1 0 0 0 1.#INF 0 0 1", "NaN or infinite"),
        ("1 0 0 0 0 0 0 7", "has camera 7, which the model does not have"),
        ("1 0 0 0 0 0 0 2", "is 160x120 px but its camera is for 100x100"),
        ("1 0 0 0 0 0 0 3", "focal length of 1e"),
    ],
)
def test_bad_images_of_colmap(tmp_path: Path, values: str, message: str, binary: bool):
    model = write_colmap_capture(tmp_path, shots(centered=True), "PINHOLE", PINHOLE)
    with (model / "cameras.txt").open("a") as file:
        file.write("2 PINHOLE 100 100 100 100 50 50\n3 PINHOLE 160 120 1e9 1e9 80 60\n")
    set_pose(model, 1, values)
    if binary:
        as_binary(model)
    with pytest.warns(LeftOutWarning, match=message):
        capture = load_capture(tmp_path)
    assert [frame.name for frame in capture.frames] == ["images/0.png", "images/2.png"]
    assert capture.left_out == ("1.png",)
    with pytest.raises(ReconError, match="strict=True"), strictly(True):
        load_capture(tmp_path)


@pytest.mark.parametrize("binary", [False, True])
def test_all_cameras_of_colmap_but_one_are_bad(tmp_path: Path, binary: bool):
    model = write_colmap_capture(tmp_path, shots(centered=True), "PINHOLE", PINHOLE)
    for row in (1, 2):
        set_pose(model, row, "1 nan 0 0 0 0 0 1")
    if binary:
        as_binary(model)
    with pytest.raises(ReconError, match=r"of its 3 cameras, only one can be used: .*NaN"):
        load_capture(tmp_path)
    # To render, one camera is enough.
    with pytest.warns(LeftOutWarning, match=r"left out 2 of 3 photos, .*NaN"):
        assert len(load_capture(tmp_path, photos=False).frames) == 1


@pytest.mark.parametrize("line", ["1 pinhole 160.0 120.0", "1 Pinhole 1.6e2 120"])
def test_cameras_of_colmap_by_scripts(line: str, tmp_path: Path):
    write_colmap_capture(tmp_path, shots(centered=False), "PINHOLE", PINHOLE)
    text = f"{line} {' '.join(map(str, PINHOLE))}\n"
    (tmp_path / "sparse/0/cameras.txt").write_text(text)
    camera = load_capture(tmp_path).frames[0].camera
    assert camera is not None and (camera.width, camera.height) == (160, 120)
    for size in ("160.5", "inf", "1e300"):
        (tmp_path / "sparse/0/cameras.txt").write_text(text.replace(line.split()[2], size))
        with pytest.raises(ReconError, match="expected CAMERA_ID MODEL WIDTH"):
            load_capture(tmp_path)


def test_decimal_commas_of_colmap(tmp_path: Path):
    """Programs that set the language of the system write text models so."""
    model = write_colmap_capture(tmp_path, shots(centered=False), "PINHOLE", PINHOLE)
    expected = load_capture(tmp_path).frames
    for path in model.iterdir():
        path.write_text(re.sub(r"(\d)\.(\d)", r"\1,\2", path.read_text()))
    frames = load_capture(tmp_path).frames
    for a, b in zip(frames, expected, strict=True):
        assert a.camera is not None and b.camera is not None and a.points is not None
        assert torch.equal(a.camera.viewmat, b.camera.viewmat)
        assert torch.equal(a.camera.K, b.camera.K) and b.points is not None
        assert torch.equal(a.points, b.points)


def test_a_text_model_beside_a_binary_one(tmp_path: Path, recwarn):
    pycolmap = pytest.importorskip("pycolmap")
    model = write_colmap_capture(tmp_path, shots(centered=True), "PINHOLE", PINHOLE)
    pycolmap.Reconstruction(str(model)).write_binary(str(model))
    text = model / "images.txt"
    # Another sign of a quaternion is the same rotation.
    lines = text.read_text().splitlines()
    row = lines[0].split()
    row[1:5] = [str(-float(value)) for value in row[1:5]]
    text.write_text("\n".join([" ".join(row), *lines[1:]]))
    assert len(load_capture(tmp_path).frames) == 3
    assert not [w for w in recwarn if issubclass(w.category, ReconWarning)]
    row[5] = str(float(row[5]) + 0.1)
    text.write_text("\n".join([" ".join(row), *lines[1:4]]))
    with pytest.warns(ReconWarning, match=r"differ in 2 images \(0\.png, 2\.png\); the binary"):
        assert len(load_capture(tmp_path).frames) == 3


def test_images_of_colmap_that_are_listed_twice(tmp_path: Path):
    model = write_colmap_capture(tmp_path, shots(centered=True), "PINHOLE", PINHOLE)
    expected = load_capture(tmp_path).frames[0]
    with (model / "images.txt").open("a") as file:
        file.write("9 1 0 0 0 5 5 5 1 0.png\n\n")
    with pytest.warns(ReconWarning, match=r"has photos several times, .*: 0\.png"):
        frames = load_capture(tmp_path).frames
    assert len(frames) == 3
    assert frames[0].camera is not None and expected.camera is not None
    np.testing.assert_allclose(frames[0].camera.viewmat, expected.camera.viewmat)


def as_binary(model: Path) -> None:
    """Write cameras and images of a text model as binary files, and delete the text."""
    cameras = [line.split() for line in (model / "cameras.txt").read_text().splitlines()]
    content = struct.pack("<Q", len(cameras))
    for identity, _, width, height, *values in cameras:
        content += struct.pack(
            "<IiQQ4d", int(identity), 1, int(width), int(height), *map(float, values)
        )
    (model / "cameras.bin").write_bytes(content)
    lines = (model / "images.txt").read_text().splitlines()[::2]
    content = struct.pack("<Q", len(lines))
    for line in lines:
        identity, *pose, camera, name = line.split()
        numbers = [float("nan") if "(" in n or "#" in n else float(n) for n in pose]
        content += struct.pack("<I7dI", int(identity), *numbers, int(camera))
        content += name.encode() + b"\0" + struct.pack("<Q", 0)
    (model / "images.bin").write_bytes(content)
    for name in ("cameras", "images", "points3D"):
        (model / f"{name}.txt").unlink()


def test_llff_never_unpickles(tmp_path: Path):
    path = write_llff_capture(tmp_path, shots(centered=True))
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ReconError, match=r"poses_bounds\.npy is not a NumPy array file"):
        load_capture(tmp_path)


@pytest.mark.parametrize("subfolder", [".", "sparse", "colmap/sparse/0"])
def test_colmap_subfolders_and_points(tmp_path: Path, subfolder: str):
    cameras = shots(centered=False)
    write_colmap_capture(tmp_path, cameras, "PINHOLE", PINHOLE, subfolder)
    frames = load_capture(tmp_path).frames
    assert [frame.name for frame in frames] == ["images/0.png", "images/1.png", "images/2.png"]
    for frame, shot in zip(frames, cameras, strict=True):
        assert frame.camera is not None and frame.points is not None
        np.testing.assert_allclose(frame.camera.viewmat, shot.viewmat, atol=1e-12)
        np.testing.assert_allclose(frame.points, POINTS, atol=1e-12)


def test_colmap_binary(tmp_path: Path):
    pytest.importorskip("pycolmap")
    sparse = write_colmap_capture(tmp_path, shots(centered=False), "PINHOLE", PINHOLE)
    as_text = load_capture(tmp_path).frames
    code = "import pycolmap, sys; pycolmap.Reconstruction(sys.argv[1]).write_binary(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(sparse)], check=True, capture_output=True)
    for text in sparse.glob("*.txt"):
        text.unlink()
    for a, b in zip(load_capture(tmp_path).frames, as_text, strict=True):
        assert a.camera is not None and b.camera is not None
        assert a.points is not None and b.points is not None
        torch.testing.assert_close(a.camera.viewmat, b.camera.viewmat, atol=1e-12, rtol=0)
        assert torch.equal(a.camera.K, b.camera.K)
        assert torch.equal(a.points, b.points)


@pytest.mark.parametrize(
    ("model", "params", "distortion", "coefficients"),
    [
        ("SIMPLE_PINHOLE", [150.0, 87.0, 55.0], "none", ()),
        ("SIMPLE_RADIAL", [150.0, 87.0, 55.0, 0.1], "opencv", (0.1, 0, 0, 0, 0, 0, 0, 0)),
        ("RADIAL", [150.0, 87.0, 55.0, 0.1, 0.2], "opencv", (0.1, 0.2, 0, 0, 0, 0, 0, 0)),
        ("SIMPLE_RADIAL_FISHEYE", [150.0, 87.0, 55.0, 0.1], "fisheye", (0.1, 0, 0, 0)),
        ("RADIAL_FISHEYE", [150.0, 87.0, 55.0, 0.1, 0.2], "fisheye", (0.1, 0.2, 0, 0)),
    ],
)
def test_colmap_models(tmp_path: Path, model, params, distortion, coefficients):
    write_colmap_capture(tmp_path, shots(centered=False), model, params)
    camera = load_capture(tmp_path).frames[0].camera
    assert camera is not None
    expected = torch.tensor([[150.0, 0, 87], [0, 150, 55], [0, 0, 1]], dtype=torch.float64)
    assert torch.equal(camera.K, expected)
    assert (camera.distortion, camera.coefficients) == (distortion, coefficients)


def test_bad_colmap(tmp_path: Path):
    cameras = shots(centered=False)
    write_colmap_capture(tmp_path, cameras, "LENS", [*PINHOLE, 0.5])
    with pytest.raises(ReconError, match=r"camera model LENS, .*colmap image_undistorter"):
        load_capture(tmp_path)
    sparse = write_colmap_capture(tmp_path, cameras, "PINHOLE", PINHOLE)
    (sparse / "points3D.txt").write_text(f"{2**64 - 1} 0 0 0 1 2 3 0.1\n")
    with pytest.warns(ReconWarning, match=r"points3D\.txt"):
        load_capture(tmp_path)
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    with pytest.raises(ReconError, match=r"images that do not exist, .*: 0\.png, 1\.png, 2\.png"):
        load_capture(tmp_path)
    (sparse / "images.txt").write_text("")
    (sparse / "points3D.txt").write_text("")
    with pytest.raises(ReconError, match=r"has no registered image"):
        load_capture(tmp_path)
    (sparse / "images.txt").write_text("1 0.5 0.5 x\n")
    with pytest.raises(ReconError, match=r"images\.txt, line 1: expected IMAGE_ID QW"):
        load_capture(tmp_path)


def test_errors_are_one_line(tmp_path: Path):
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": [{"file_path": "a\nb.png"}]}))
    with pytest.raises(ReconError) as caught:
        load_capture(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["images.txt", "cameras.txt"])
def test_colmap_model_without_a_file_is_told(missing: str, tmp_path: Path):
    model = write_colmap_capture(tmp_path, shots(centered=True), "PINHOLE", PINHOLE)
    (model / missing).unlink()
    with pytest.warns(ReconWarning, match=f"sparse/0 is not used: it has no {missing}") as told:
        capture = load_capture(tmp_path)
    assert not capture.has_cameras
    assert sum(missing in str(warning.message) for warning in told) == 1


@pytest.mark.parametrize("focal", [1e9, 1e-3])
def test_focal_lengths_of_another_unit(focal: float, tmp_path: Path):
    write_colmap_capture(tmp_path, shots(centered=True), "PINHOLE", [focal, 154.0, 87.0, 55.0])
    with pytest.raises(ReconError, match="contradicts the size"):
        load_capture(tmp_path)


def test_empty_principal_point_is_the_centre(tmp_path: Path):
    cameras = shots(centered=True)
    write_colmap_capture(tmp_path, cameras, "PINHOLE", [150.0, 154.0, 0.0, 0.0])
    with pytest.warns(ReconWarning, match="principal point of cameras is 0, 0"):
        camera = load_capture(tmp_path).frames[0].camera
    assert camera is not None
    assert camera.K[:2, 2].tolist() == [cameras[0].width / 2, cameras[0].height / 2]
