"""Cameras of other tools, and files of theirs that are named and not read."""

import json
import math
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import Shot, shots, write_images
from PIL import Image

from recon import InputError, ReconWarning
from recon.capture import Capture, load_capture

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
TABLE = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
DEGREES = f"""{TABLE}
0.jpg,14.4211,50.0875,210.5,0,0,0,24,0,0,0,0,0,0,0,0
1.jpg,14.4212,50.0876,231.5,0,0,0,24,0,0,0,0,0,0,0,0
"""
DISTORTION = (0.1, -0.02, 0.001, 0.002)


def told(folder: Path) -> tuple[Capture, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        capture = load_capture(folder)
    return capture, "\n".join(str(warning.message) for warning in caught)


def write_metashape(folder: Path, cameras: list[Shot]) -> None:
    """Write cameras.xml, with p1 and p2 in Metashape's order."""
    first = cameras[0]
    k1, k2, p1, p2 = DISTORTION
    lens = {
        "f": first.fx, "cx": first.cx - first.width / 2, "cy": first.cy - first.height / 2,
        "k1": k1, "k2": k2, "p1": p2, "p2": p1,
    }  # fmt: skip
    values = "".join(f"<{key}>{value}</{key}>" for key, value in lens.items())
    size = f'<resolution width="{first.width}" height="{first.height}"/>'
    sensor = (
        f'<sensor id="0" type="frame">{size}<calibration type="frame" class="adjusted">{size}'
        f"{values}</calibration></sensor>"
    )
    entries = "".join(
        f'<camera id="{i}" sensor_id="0" component_id="0" label="{i}"><transform>'
        f"{' '.join(map(repr, shot.c2w.ravel().tolist()))}</transform></camera>"
        for i, shot in enumerate(cameras)
    )
    lost = '<camera id="9" sensor_id="0" label="9"/>'
    (folder / "cameras.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="1.5.0"><chunk>'
        f"<sensors>{sensor}</sensors><cameras>{entries}{lost}</cameras></chunk></document>"
    )


def write_polycam(folder: Path, cameras: list[Shot]) -> None:
    (folder / "keyframes" / "cameras").mkdir(parents=True)
    (folder / "images").rename(folder / "keyframes" / "images")
    for i, shot in enumerate(cameras):
        matrix = shot.c2w @ FLIP
        values = {f"t_{r}{c}": matrix[r, c] for r in range(3) for c in range(4)}
        values |= {"fx": shot.fx, "fy": shot.fx, "cx": shot.cx, "cy": shot.cy}
        values |= {"width": shot.width, "height": shot.height}
        (folder / "keyframes" / "cameras" / f"{i}.json").write_text(json.dumps(values))


def write_reality_capture(folder: Path, cameras: list[Shot]) -> None:
    """Write the table of cameras; heading, pitch and roll are those of an aeroplane's camera."""
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    k1, k2, t1, t2 = DISTORTION
    for i, shot in enumerate(cameras):
        right, up, back = (shot.c2w[:3, :3] * [1, -1, -1]).T
        # The roll is about the axis of the lens' up direction, last: it leaves `up` as it is.
        pitch = math.asin(up[2])
        heading = math.atan2(up[0], up[1])
        roll = math.atan2(-right[2], back[2])
        angles = ",".join(repr(math.degrees(angle)) for angle in (heading, pitch, roll))
        center = (shot.cx - shot.width / 2) / shot.width, (shot.cy - shot.height / 2) / shot.width
        lines.append(
            f"{i}.png,{','.join(map(repr, shot.c2w[:3, 3].tolist()))},{angles},"
            f"{36 * shot.fx / shot.width!r},{center[0]!r},{center[1]!r},{k1},{k2},0,0,{t1},{t2}"
        )
    (folder / "cameras.csv").write_text("\n".join(lines) + "\n")


def write_record3d(folder: Path, cameras: list[Shot]) -> None:
    (folder / "images").rename(folder / "rgb")
    poses = []
    for shot in cameras:
        # The inverse rotation, times half a rotation about x; x y z w.
        w, x, y, z = shot.quat
        poses.append([w, -z, y, x, *shot.c2w[:3, 3].tolist()])
    first = cameras[0]
    K = np.array([[first.fx, 0, first.cx], [0, first.fx, first.cy], [0, 0, 1]])
    document = {"K": K.T.ravel().tolist(), "w": first.width, "h": first.height, "poses": poses}
    (folder / "metadata.json").write_text(json.dumps(document))


def write_bundler(folder: Path, cameras: list[Shot]) -> None:
    lines = ["# Bundle file v0.3", f"{len(cameras)} 0"]
    for shot in cameras:
        viewmat = np.diag([1.0, -1.0, -1.0]) @ shot.viewmat[:3]
        lines += [
            f"{shot.fx} 0.1 -0.02",
            *(" ".join(map(repr, row)) for row in viewmat[:, :3].tolist()),
        ]
        lines.append(" ".join(map(repr, viewmat[:, 3].tolist())))
    (folder / "bundle.out").write_text("\n".join(lines) + "\n")
    (folder / "list.txt").write_text("".join(f"{i}.png\n" for i in range(len(cameras))))


def test_photos_with_spaces_in_lists_of_bundler(tmp_path: Path) -> None:
    cameras = shots(centered=True)
    write_images(tmp_path, cameras)
    write_bundler(tmp_path, cameras)
    names = []
    for photo in sorted((tmp_path / "images").iterdir()):
        names.append(photo.rename(photo.with_stem(f"my {photo.stem}")).name)
    focals = ("", " 0 2500", " 0 150.25")
    lines = [f"{name}{focal}" for name, focal in zip(names, focals, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    capture = load_capture(tmp_path)
    assert [Path(frame.name).name for frame in capture.frames] == names
    assert capture.has_cameras


@pytest.mark.parametrize(
    ("write", "centered", "coefficients"),
    [
        (write_metashape, False, (*DISTORTION, 0, 0, 0, 0)),
        (write_reality_capture, False, (*DISTORTION, 0, 0, 0, 0)),
        (write_polycam, False, ()),
        (write_record3d, False, ()),
        (write_bundler, True, (0.1, -0.02, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_cameras_of_other_tools(tmp_path: Path, write, centered: bool, coefficients):
    cameras = shots(centered=centered)
    write_images(tmp_path, cameras)
    write(tmp_path, cameras)
    capture, warning = told(tmp_path)
    assert capture.kind == "exported" and "are used" in warning
    assert [frame.image_path.name for frame in capture.frames] == ["0.png", "1.png", "2.png"]
    for frame, shot in zip(capture.frames, cameras, strict=True):
        assert frame.camera is not None
        np.testing.assert_allclose(frame.camera.viewmat, shot.viewmat, atol=1e-9)
        K = [[shot.fx, 0, shot.cx], [0, shot.fx, shot.cy], [0, 0, 1]]
        np.testing.assert_allclose(frame.camera.K, K, atol=1e-9)
        assert frame.camera.coefficients == coefficients
        assert frame.camera.viewmat.dtype == torch.float64


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_metashape, "cameras.xml"), (write_polycam, ""), (write_record3d, "metadata.json"),
        (write_reality_capture, "cameras.csv"), (write_bundler, "bundle.out"),
    ],
)  # fmt: skip
def test_cameras_without_photos(tmp_path: Path, write, name: str):
    """Rendering needs no photos, unless the file leaves their size to them."""
    cameras = shots(centered=True)
    write_images(tmp_path, cameras)
    write(tmp_path, cameras)
    for folder in ("images", "keyframes/images", "rgb", "rgbd"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    if name in ("cameras.csv", "bundle.out"):
        with pytest.raises(InputError, match="the size of its photo is not in the file"):
            load_capture(tmp_path / name, photos=False)
        write_images(tmp_path, cameras)
    capture = load_capture(tmp_path / name, photos=False)
    assert len(capture.frames) == 3
    for frame, shot in zip(capture.frames, cameras, strict=True):
        assert frame.camera is not None
        np.testing.assert_allclose(frame.camera.viewmat, shot.viewmat, atol=1e-9)
        assert (frame.camera.width, frame.camera.height) == (shot.width, shot.height)


@pytest.mark.parametrize(
    ("extra", "focals", "reason"),
    [("<b1>-30</b1>", (120, 150), ""), ("<k4>0.1</k4>", None, "k4"), ("<b2>2</b2>", None, "b2")],
)
def test_calibrations_of_metashape(tmp_path: Path, extra: str, focals, reason: str):
    cameras = shots(centered=True)
    write_images(tmp_path, cameras)
    write_metashape(tmp_path, cameras)
    text = (tmp_path / "cameras.xml").read_text()
    initial = '<calibration type="frame" class="initial"><f>90</f></calibration>'
    text = text.replace("</calibration>", f"{extra}</calibration>")
    (tmp_path / "cameras.xml").write_text(text.replace("<calibration", f"{initial}<calibration", 1))
    capture, warning = told(tmp_path)
    assert capture.has_cameras == (not reason) and reason in warning
    if capture.frames[0].camera is not None:
        assert tuple(capture.frames[0].camera.K.diagonal()[:2].tolist()) == focals


def test_tables_of_reality_capture_in_other_dialects(tmp_path: Path):
    """The columns are those of a template that people change, and some systems write semicolons."""
    cameras = shots(centered=True)
    write_images(tmp_path, cameras)
    write_reality_capture(tmp_path, cameras)
    rows = [line.split(",")[:8] for line in (tmp_path / "cameras.csv").read_text().splitlines()]
    text = "\r\n".join(";".join([*row[1:], row[0]]) for row in rows)
    (tmp_path / "cameras.csv").unlink()
    (tmp_path / "Scan.CSV").write_text(f"#cameras 3\r\n{text}", encoding="utf-16")
    capture, _ = told(tmp_path)
    assert len(capture.frames) == 3
    for frame, shot in zip(capture.frames, cameras, strict=True):
        assert frame.camera is not None and frame.camera.distortion == "none"
        np.testing.assert_allclose(frame.camera.viewmat, shot.viewmat, atol=1e-9)
        np.testing.assert_allclose(frame.camera.K, shot.K, atol=1e-9)


def test_a_table_above_the_photos_is_named(tmp_path: Path):
    cameras = shots(centered=True)
    write_images(tmp_path, cameras)
    write_reality_capture(tmp_path, cameras)
    capture, warning = told(tmp_path / "images")
    assert not capture.has_cameras and "not read from" in warning and "cameras.csv" in warning


def test_reality_capture_of_a_level_camera(tmp_path: Path):
    """Heading 90, pitch 90 looks east with the horizon level."""
    Image.new("RGB", (60, 80)).save(tmp_path / "a.jpg")
    rows = ["a.jpg,1,2,3,90,90,0,18,0.1,-0.05", "a.png,0,0,0,0,0,0,18,0,0"]
    (tmp_path / "a.csv").write_text("\n".join([TABLE, *rows]))
    Image.new("RGB", (60, 80)).save(tmp_path / "a.png")
    camera = told(tmp_path)[0].frames[0].camera
    assert camera is not None
    c2w = torch.linalg.inv(camera.viewmat)
    np.testing.assert_allclose(c2w[:3], [[0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 3]], atol=1e-9)
    np.testing.assert_allclose(camera.K, [[40, 0, 38], [0, 40, 36], [0, 0, 1]])


def spoil(folder: Path) -> None:
    """Make the second camera of a file of another tool invalid."""
    files = [*folder.glob("keyframes/cameras/1.json"), *folder.glob("metadata.json")]
    if files:
        document = json.loads(files[0].read_text())
        if "poses" in document:
            document["poses"][1][:4] = [0, 0, 0, 0]
        else:
            document["t_00"] = None
        files[0].write_text(json.dumps(document))
    elif (folder / "bundle.out").is_file():
        lines = (folder / "bundle.out").read_text().splitlines()
        lines[8] = "nan 0 0"
        (folder / "bundle.out").write_text("\n".join(lines))
    elif (folder / "cameras.csv").is_file():
        text = (folder / "cameras.csv").read_text()
        (folder / "cameras.csv").write_text(text.replace("1.png,", "1.png,nan"))
    else:
        text = (folder / "cameras.xml").read_text()
        start = text.index("<transform>", text.index('label="1"')) + len("<transform>")
        (folder / "cameras.xml").write_text(text[:start] + "0 " * 12 + text[start:])


@pytest.mark.parametrize(
    "write",
    [write_metashape, write_reality_capture, write_polycam, write_record3d, write_bundler],
    ids=lambda w: w.__name__,
)
def test_a_bad_camera_leaves_the_others(tmp_path: Path, write):
    cameras = shots(centered=True)
    write_images(tmp_path, cameras)
    write(tmp_path, cameras)
    spoil(tmp_path)
    capture, warning = told(tmp_path)
    assert [frame.image_path.name for frame in capture.frames] == ["0.png", "2.png"]
    assert "left out 1 of 3 photos" in warning and len(capture.left_out) == 1
    # One camera is left of two: they are estimated instead, and nothing is to be done for that.
    capture.frames[0].image_path.unlink()
    capture, warning = told(tmp_path)
    assert not capture.has_cameras and len(capture.frames) == 2
    assert "cameras, only one can be used" in warning and "without this" not in warning
    assert "the cameras are estimated from the photos" in warning
    next(iter(tmp_path.rglob("1.png"))).unlink()
    assert "only one of its cameras has a photo" in told(tmp_path)[1]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("cameras.xml", "<document/>", "has no aligned cameras"),
        ("cameras.xml", "<document><chunk>", "is not valid XML"),
        ("bundle.out", "# Bundle file v0.3\n", r"list.txt, which names its photos, is missing"),
        ("metadata.json", "{}", r"metadata.json: K: expected a matrix"),
        ("cameras.csv", "#name,x,y,alt\n1.jpg,0,0,0\n", "cameras.csv"),
        ("cameras.csv", "#name,x,y,alt,heading,pitch,roll\n1.jpg,0,0,0,0,0,0\n", "focal lengths"),
        ("cameras.csv", DEGREES, "positions are in degrees"),
        ("cameras.csv", f"{TABLE}\n1.jpg,0,0,0,0,0,0,24,0,0,0,0,0,9,0,0\n", "which recon does not"),
        ("cameras.csv", f"{TABLE}\n7.jpg,0,0,0,0,0,0,24,0,0,0,0,0,0,0,0\n", "7.jpg"),
        ("cameras.csv", f"{TABLE}\n", "cameras.csv"),
        ("scene.nvm", "NVM_V3\n", "scene.nvm"),
        ("reconstruction.json", "[]", "reconstruction.json"),
        ("1.xmp", "<x/>", "1.xmp"),
    ],
)
def test_cameras_that_are_not_read_are_named(tmp_path: Path, name: str, text: str, reason: str):
    for i in range(2):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{i}.jpg")
    (tmp_path / name).write_text(text)
    capture, warning = told(tmp_path)
    assert capture.kind == "images" and len(capture.frames) == 2 and not capture.has_cameras
    assert reason in warning and name in warning and "estimated from the photos" in warning


def test_files_of_others_beside_photos_do_no_harm(sample: Path, tmp_path: Path) -> None:
    """A table in Shift-JIS, a pointer of Git LFS, links to nothing and folders are passed over."""
    shutil.copytree(sample, tmp_path / "a")
    folder = tmp_path / "a"
    (folder / "table.csv").write_bytes("\u540d\u524d\u8868,\u8868".encode("shift-jis") + b"\x81")
    (folder / "notes.xml").write_bytes(b"\xff\xfe\x81\x81\x81")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / "big.csv").write_text(pointer)
    (folder / "folder.csv").mkdir()
    for name in ("lost.csv", "lost.json", "lost.xml"):
        (folder / name).symlink_to(tmp_path / "nothing")
    capture = load_capture(folder)
    assert capture.has_cameras and len(capture.frames) == len(load_capture(sample).frames)


def test_splits_in_a_subfolder_are_one_set_of_cameras(sample: Path, tmp_path: Path) -> None:
    shutil.copytree(sample, tmp_path / "a" / "lego")
    child = tmp_path / "a" / "lego"
    text = (child / "transforms.json").read_text()
    (child / "transforms.json").unlink()
    for split in ("train", "test", "val"):
        (child / f"transforms_{split}.json").write_text(text)
    with pytest.warns(ReconWarning, match=r"those of lego/transforms_train\.json are used"):
        assert load_capture(tmp_path / "a").has_cameras
