"""transforms.json: variants, round trip, and what is wrong with a file."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from capture_files import POINTS, shots, transforms_document, write_transforms_capture
from PIL import Image

from recon.capture import Frame, FrameCamera, load_capture, load_views, write_transforms
from recon.capture.transforms import _inside
from recon.errors import LeftOutWarning, ReconError, ReconWarning, strictly


def rewrite(path: Path, change) -> Path:
    """Apply a change to a JSON file, and return its path."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


@pytest.fixture()
def written(tmp_path: Path) -> Path:
    return write_transforms_capture(tmp_path, shots(centered=False))


def cameras_of(path: Path) -> list[FrameCamera]:
    return [frame.camera for frame in load_capture(path).frames if frame.camera is not None]


def assert_same_cameras(a: list[FrameCamera], b: list[FrameCamera]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.viewmat, y.viewmat, atol=1e-9, rtol=0)
        torch.testing.assert_close(x.K, y.K, atol=1e-9, rtol=0)
        assert (x.width, x.height, x.distortion) == (y.width, y.height, y.distortion)
        assert x.coefficients == y.coefficients


def test_folder_and_file_are_the_same(written: Path):
    assert_same_cameras(cameras_of(written), cameras_of(written.parent))


def test_cameras_without_their_photos(written: Path, tmp_path: Path):
    expected, alone = cameras_of(written), tmp_path / "elsewhere" / "path.json"
    alone.parent.mkdir()
    alone.write_text(written.read_text())
    found = [frame.camera for frame in load_capture(alone, photos=False).frames]
    assert_same_cameras([camera for camera in found if camera is not None], expected)
    with pytest.raises(ReconError, match="do not exist"):
        load_capture(alone)
    rewrite(alone, lambda document: document["frames"][0].pop("w"))
    with pytest.raises(ReconError, match="do not exist"):
        load_capture(alone, photos=False)


def test_the_vertical_angle_alone(written: Path):
    def change(document):
        for frame in document["frames"]:
            del frame["fl_x"], frame["fl_y"]
            frame["camera_angle_y"] = 2 * math.atan(0.5 * frame["h"] / 140.0)

    for camera in cameras_of(rewrite(written, change)):
        assert camera.K[0, 0] == pytest.approx(140.0) and camera.K[1, 1] == pytest.approx(140.0)


def test_values_for_all_frames_and_three_rows(written: Path):
    expected = cameras_of(written)

    def share(document):
        for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            document[key] = document["frames"][0][key]
            for frame in document["frames"]:
                del frame[key]
        document["frames"][0]["cx"] = 31.0
        for frame in document["frames"]:
            frame["transform_matrix"] = frame["transform_matrix"][:3]
        document["applied_transform"] = [[0, 1, 0, 5], [1, 0, 0, 6], [0, 0, -1, 7]]
        document["applied_scale"] = 3.0

    found = cameras_of(rewrite(written, share))
    assert found[0].K[0, 2] == 31.0
    assert_same_cameras(found[1:], expected[1:])


def test_nerf_synthetic_layout(tmp_path: Path):
    """The NeRF synthetic layout is read: camera_angle_x, no size, no extension."""
    shot = shots(centered=True)[0]
    (tmp_path / "train").mkdir()
    Image.new("RGB", (shot.width, shot.height)).save(tmp_path / "train" / "r_0.png")
    matrix = transforms_document([shot])["frames"][0]["transform_matrix"]
    frame = {"file_path": "./train/r_0", "rotation": 0.01, "transform_matrix": matrix}
    angle = 2 * math.atan(shot.width / (2 * shot.fx))
    document = {"camera_angle_x": angle, "frames": [frame]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(document))
    (camera,) = cameras_of(tmp_path)
    np.testing.assert_allclose(camera.K, shot.K, atol=1e-9)
    assert load_capture(tmp_path).frames[0].image_path.name == "r_0.png"


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("none", ()),
        ("opencv", (0.1, -0.02, 0.001, 0.002, 0.3, 0.01, 0.02, 0.03)),
        ("fisheye", (0.1, 0.02, 0.0, 0.0)),
        ("fisheye", (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_round_trip(written: Path, model, coefficients):
    frames = load_capture(written).frames
    changed = []
    for i, frame in enumerate(frames):
        camera = frame.camera
        assert camera is not None
        if i > 0:
            camera = FrameCamera(camera.viewmat, camera.K, 160, 120, model, coefficients)
        changed.append(Frame(frame.name, frame.image_path, camera))
    path = written.parent / "saved.json"
    write_transforms(path, changed)
    again = load_capture(path).frames
    assert [frame.name for frame in again] == [frame.name for frame in frames]
    assert_same_cameras(
        [frame.camera for frame in again if frame.camera],
        [frame.camera for frame in changed if frame.camera],
    )


def test_round_trip_elsewhere_and_of_rounded_matrices(written: Path, tmp_path_factory):
    """A file in another folder finds the images; rounding does not move a camera twice."""

    def coarse(document):
        for frame in document["frames"]:
            frame["transform_matrix"] = np.round(frame["transform_matrix"], 3).tolist()

    frames = load_capture(rewrite(written, coarse)).frames
    path = tmp_path_factory.mktemp("other") / "cameras.json"
    write_transforms(path, frames)
    again = load_capture(path).frames
    assert [f.image_path for f in again] == [f.image_path.resolve() for f in frames]
    assert_same_cameras(
        [f.camera for f in again if f.camera], [f.camera for f in frames if f.camera]
    )


def test_masks(written: Path):
    mask = np.zeros((120, 160), np.uint8)
    mask[:, 80:] = 255
    Image.fromarray(mask).save(written.parent / "left.png")

    def name_mask(document):
        document["frames"][1]["mask_path"] = "left.png"

    rewrite(written, name_mask)
    views = load_views(load_capture(written).frames, 80)
    assert views.masks[0].min() == 1
    assert views.masks[1, 0, :, :40].max() == 0 and views.masks[1, 0, :, 40:].min() == 1
    assert views.images[1, :, :, :40].max() == 0
    rewrite(written, lambda d: d["frames"][1].update(mask_path="gone.png"))
    with pytest.warns(ReconWarning, match=r"masks that are not there, .* used whole: gone\.png"):
        assert load_capture(written).frames[1].mask_path is None


def test_sparse_points_are_those_that_a_frame_sees(written: Path):
    behind, beside = [0.0, 0.0, -9.0], [50.0, 0.0, 5.0]
    cloud = trimesh.PointCloud(np.concatenate([POINTS, [behind, beside]]))
    cloud.export(written.parent / "sparse.ply")
    rewrite(written, lambda d: d.update(ply_file_path="sparse.ply"))
    for frame in load_capture(written).frames:
        np.testing.assert_allclose(frame.points, POINTS, atol=1e-6)
    (written.parent / "sparse.ply").write_bytes(b"ply\nformat nonsense")
    with pytest.warns(ReconWarning, match=r"cannot read ply_file_path sparse\.ply"):
        assert load_capture(written).frames[0].points is None


def test_points_at_the_last_edge_are_outside_as_for_all_cameras():
    K = torch.tensor([[8.0, 0, 8], [0, 8, 8], [0, 0, 1]]).double()
    camera = FrameCamera(torch.eye(4).double(), K, 16, 16)
    points = torch.tensor([[-1.0, 0, 1], [1, 0, 1], [0, -1, 1], [0, 1, 1], [0, 0, -1]]).double()
    assert _inside(points, camera).tolist() == [True, False, True, False, False]


def first(**values):
    """Return a change that sets values of the first frame (None deletes)."""

    def change(document):
        for key, value in values.items():
            document["frames"][0][key] = value
            if value is None:
                del document["frames"][0][key]

    return change


BAD_FRAMES = [
    (first(file_path=None), r"frame 0 has no file_path"),
    (first(transform_matrix=None), r"must be a 4x4 matrix .* found none"),
    (first(transform_matrix=np.eye(3).tolist()), r"must be a 4x4 matrix .* found 3x3"),
    (first(transform_matrix=[["a"] * 4] * 4), r"must be a 4x4 matrix"),
    (first(transform_matrix=np.diag([1, 1, math.nan, 1]).tolist()), r"NaN or infinite"),
    (first(transform_matrix=np.diag([1, 1, math.inf, 1]).tolist()), r"NaN or infinite"),
    (first(transform_matrix=np.diag([1.0, 1, -1, 1]).tolist()), r"mirrored .*determinant -1"),
    (first(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()), r"off a rotation by 3"),
    (first(transform_matrix=(np.eye(4) + np.eye(4, k=-3)).tolist()), r"last row .* 1 0 0 1"),
    (first(fl_x=None), r"no focal length; expected fl_x \(px\), or camera_angle_x"),
    (first(fl_x=0), r"focal length must be above 0 px, found 0, 154"),
    (first(fl_y=-3.5), r"focal length must be above 0 px, found 150, -3.5"),
    (first(fl_x="long"), r"fl_x must be a finite number, found 'long'"),
    (first(fl_x=10**400), r"fl_x must be a finite number, found 1000"),
    (first(transform_matrix=[[10**400] * 4] * 4), r"must be a 4x4 matrix"),
    (first(fl_x=None, camera_angle_x=0.0), r"camera_angle_x must be between 0 and pi"),
    (first(camera_angle_x=2.0), r"fl_x 150 and camera_angle_x, .*contradict"),
    (first(fl_x=0.9, fl_y=0.9), r"focal length of 0\.9, 0\.9 px contradicts the size"),
    (first(cx=700.0), r"principal point 700, 55 px contradicts the size 160 x 120"),
    (first(w=0), r"width and height must be above 0 px, found 0 x 120"),
    (first(camera_model="PANORAMA"), r"unknown camera_model 'PANORAMA'; expected"),
    (first(camera_model="PINHOLE", k1=0.1), r"camera_model PINHOLE has no k1"),
]


@pytest.mark.parametrize(("change", "message"), BAD_FRAMES)
def test_bad_frame(written: Path, change, message: str):
    """A frame is left out, and a line names the file, the frame and what is wrong."""
    rewrite(written, change)
    with pytest.warns(LeftOutWarning, match=message) as told:
        capture = load_capture(written)
    assert [frame.name for frame in capture.frames] == ["images/1.png", "images/2.png"]
    assert len(capture.left_out) + len(capture.frames) >= 3
    text = str(told[0].message)
    assert str(written) in text and "frame 0" in text and "\n" not in text
    with pytest.raises(ReconError, match="strict=True"), strictly(True):
        load_capture(written)
    rewrite(written, lambda document: document.update(frames=document["frames"][:1]))
    with pytest.raises(ReconError, match=message):
        load_capture(written)


def test_all_cameras_but_one_are_bad(written: Path):
    def spoil(document):
        for frame in document["frames"][1:]:
            frame["transform_matrix"][0][3] = math.nan

    rewrite(written, spoil)
    with pytest.raises(ReconError, match=r"only one can be used: .*frame 1.*NaN.*without this"):
        load_capture(written)
    # To render, one camera is enough.
    with pytest.warns(LeftOutWarning, match=r"left out 2 of 3 photos, .*frame 1.*NaN"):
        assert len(load_capture(written, photos=False).frames) == 1


def test_frames_may_be_an_object(written: Path):
    """Its keys name photos that have no file_path of their own, in the order of people."""
    expected = cameras_of(written)

    def change(document):
        entries = {entry.pop("file_path").split("/")[1]: entry for entry in document["frames"]}
        document["frames"] = dict(reversed(entries.items()))

    rewrite(written, change)
    assert [frame.image_path.name for frame in load_capture(written).frames] == [
        "0.png", "1.png", "2.png"
    ]  # fmt: skip
    assert_same_cameras(cameras_of(written), expected)
    # Also of another name, where keys are numbers and the photos are named.
    document = json.loads(written.read_text())
    frames = enumerate(document["frames"].items())
    document["frames"] = {str(7 + i): {"file_path": f"images/{k}", **e} for i, (k, e) in frames}
    written.unlink()
    (written.parent / "poses.json").write_text(json.dumps(document))
    with pytest.warns(ReconWarning, match="the cameras of poses.json are used"):
        assert_same_cameras(cameras_of(written.parent), expected[::-1])


def test_distortions_in_a_list_and_models_in_lower_case(written: Path):
    """nerfstudio's `distortion_params`: k1 k2 k3 k4 p1 p2."""
    rewrite(
        written, first(camera_model="opencv", distortion_params=[0.1, -0.02, 0.003, 0, 4e-3, 5e-3])
    )
    camera = cameras_of(written)[0]
    assert camera.coefficients == (0.1, -0.02, 4e-3, 5e-3, 0.003, 0, 0, 0)
    rewrite(
        written, first(camera_model="opencv_fisheye", distortion_params=[0.1, 0.02, 0, 0, 0, 0])
    )
    assert cameras_of(written)[0].distortion == "fisheye"
    rewrite(written, first(camera_model="OPENCV", distortion_params=[0, 0, 0, 0.2, 0, 0]))
    with pytest.warns(LeftOutWarning, match="k4 without k5 and k6"):
        load_capture(written)
    rewrite(written, first(distortion_params=[0.1, 0.2]))
    with pytest.warns(LeftOutWarning, match="distortion_params must be a list of k1, k2, k3, k4"):
        load_capture(written)


def test_the_rational_model_is_written_whole(written: Path, tmp_path: Path):
    """Without k5 and k6, k4 has another meaning."""
    rewrite(written, first(k1=0.1, k4=0.05, k5=0, k6=0))
    frames = load_capture(written).frames
    write_transforms(tmp_path / "b.json", frames)
    assert_same_cameras(cameras_of(tmp_path / "b.json"), cameras_of(written))
    assert cameras_of(written)[0].coefficients[5] == 0.05


@pytest.mark.parametrize("count", [12, 16])
@pytest.mark.parametrize("by_columns", [False, True])
def test_matrices_may_be_lists_of_numbers(written: Path, count: int, by_columns: bool):
    expected = cameras_of(written)

    def change(document):
        for entry in document["frames"]:
            matrix = np.array(entry["transform_matrix"])[: count // 4]
            entry["transform_matrix"] = (matrix.T if by_columns else matrix).ravel().tolist()

    rewrite(written, change)
    if by_columns and count == 12:
        with pytest.raises(ReconError, match="off a rotation"):
            load_capture(written)
        return
    assert_same_cameras(cameras_of(written), expected)


def test_all_photos_but_one_are_missing(written: Path):
    for name in ("0.png", "1.png"):
        (written.parent / "images" / name).unlink()
    with pytest.warns(ReconWarning, match=r"only one photo of .* is used, .* depth is a guess"):
        assert len(load_capture(written).frames) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "is not valid JSON"),
        ("[1, 2]", "camera 0 is incomplete or damaged"),
        ("3", "holds a int; expected a JSON object"),
        ("{}", "has no frames"),
        ('{"frames": []}', "has no frames"),
        ('{"frames": [3]}', "frame 0 has no file_path"),
    ],
)
def test_bad_file(written: Path, text: str, message: str):
    written.write_text(text)
    with pytest.raises(ReconError, match=message) as caught:
        load_capture(written)
    assert str(written) in str(caught.value)


def test_size_comes_from_the_image_when_missing(written: Path):
    expected = cameras_of(written)
    rewrite(written, first(w=None, h=None))
    assert_same_cameras(cameras_of(written), expected)


def test_camera_of_another_shape_is_refused(written: Path):
    message = r"0\.png is 160x120 px but its camera is for 120x160"
    frames = load_capture(written).frames
    rewrite(written, first(w=120, h=160))
    with pytest.warns(LeftOutWarning, match=message):
        assert len(load_capture(written).frames) == 2
    camera = frames[0].camera
    assert camera is not None
    rotated = replace(frames[0], camera=replace(camera, width=120, height=160))
    with pytest.raises(ReconError, match=message):
        load_views([rotated], 64)


def test_numbers_as_text_and_null(written: Path):
    expected = cameras_of(written)

    def change(document):
        for frame in document["frames"]:
            frame.update(w="160", cy=str(frame["cy"]), k1="0", k2=None, mask_path=None)
        document["frames"][0]["h"], document["h"] = None, 120
        document["ply_file_path"] = None

    assert_same_cameras(cameras_of(rewrite(written, change)), expected)


def test_photos_that_are_listed_twice(written: Path):
    rewrite(written, lambda document: document["frames"].append(dict(document["frames"][1])))
    with pytest.warns(ReconWarning, match=r"has photos several times, .*: images/1\.png"):
        assert len(load_capture(written).frames) == 3


def test_smaller_copies_of_the_images_are_fine(written: Path):
    """The images may be smaller than the cameras say: K is that of the image."""
    frames = load_capture(written).frames
    for frame in frames:
        Image.open(frame.image_path).resize((80, 60)).save(frame.image_path)
    views = load_views(frames, 80)
    assert frames[0].camera is not None
    torch.testing.assert_close(
        views.cameras.Ks[0, :2].double(), frames[0].camera.K[:2] / 2, atol=1e-4, rtol=0
    )
