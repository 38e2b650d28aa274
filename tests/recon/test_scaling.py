"""True scale: recon convert --scale and --scale-between, recon --marker-size and --gps."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mesh_scenes import CENTER, RADIUS, around, sphere

from recon.capture import Capture, Frame, FrameCamera, load_capture, write_transforms
from recon.capture.cameras import transform_frame
from recon.capture.sfm.posed_capture import PosedCapture
from recon.cli.main import main
from recon.config import PoseConfig
from recon.errors import ConfigError, InputError
from recon.formats import open_scene, save_gaussians
from recon.pipeline import estimate_cameras
from render import Sim3
from render.cameras import camera_centers

sys.path.insert(0, str(Path(__file__).parent / "capture"))
from marker_photos import write_photos  # noqa: E402
from test_gps import METRES, photos, rotation  # noqa: E402
from test_markers import POSITIONS, SIDE, level  # noqa: E402

FAR = (500_000.0, 5_000_000.0, 100.0)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.ply"
    start = around()[0]
    save_gaussians(path, sphere(), start=replace(start, viewmats=start.viewmats.double()))
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    known = [FrameCamera(c.viewmats[0], c.Ks[0], c.width, c.height) for c in around()]
    frames = [Frame(f"{i}.png", tmp_path / f"photos/{i}.png", c) for i, c in enumerate(known)]
    write_transforms(tmp_path / "transforms.json", frames)
    return tmp_path / "transforms.json"


@pytest.mark.parametrize("extension", ["ply", "glb", "spz", "sog"])
def test_positions_sizes_and_the_start_camera_are_scaled(scene: Path, extension: str) -> None:
    out = scene.with_name(f"large.{extension}")
    main(["convert", str(scene), "-o", str(out), "--scale", "2.5", "--quiet"])
    before, after = open_scene(scene), open_scene(out)
    here, there = before.load(), after.load()
    distances = torch.cdist(2.5 * here.means[:200], there.means).min(1)
    assert float(distances.values.max()) < 0.01
    ratio = there.scales[distances.indices].amax(1) / here.scales[:200].amax(1)
    assert float((ratio - 2.5).abs().max()) < 0.2
    if before.start is not None and after.start is not None:
        moved = 2.5 * before.start.centers
        assert torch.allclose(after.start.centers, moved, atol=1e-4)


def test_a_scene_far_away_keeps_its_digits(tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.ply", sphere(500), origin=FAR)
    main(["convert", str(tmp_path / "a.ply"), "-o", str(tmp_path / "b.ply"), "--scale", "0.5"])
    before, after = open_scene(tmp_path / "a.ply"), open_scene(tmp_path / "b.ply")
    expected = (before.load().means.double() + torch.tensor(before.origin)) * 0.5
    found = after.load().means.double() + torch.tensor(after.origin).double()
    assert float((expected - found).abs().max()) < 1e-4


def test_two_points_get_their_distance(scene: Path, capsys: pytest.CaptureFixture) -> None:
    out = scene.with_name("b.ply")
    for first, second in (("0,0,-1", "0,0,1"), ("-1,0,0", "-.5,0,1.9365")):
        words = ["--scale-between", first, second, "5", "--force", "--json"]
        main(["convert", str(scene), "-o", str(out), *words])
        assert json.loads(capsys.readouterr().out)["scale"] == pytest.approx(2.5, rel=1e-4)


def test_pixels_of_photos_are_points_of_the_surface(
    scene: Path, capture: Path, capsys: pytest.CaptureFixture
) -> None:
    """The middles of two photos are where their lines of sight enter the sphere."""
    out = scene.with_name("b.ply")
    cameras = around()
    ends = [
        torch.tensor(CENTER)
        + RADIUS * torch.nn.functional.normalize(c - torch.tensor(CENTER), dim=0)
        for c in (cameras[0].centers[0], cameras[5].centers[0])
    ]
    true = float((ends[0] - ends[1]).norm())
    words = ["--scale-between", "0.png:48,48", "photos/5.png:48,48", f"{3 * true}"]
    main(["convert", str(scene), "-o", str(out), *words, "--cameras", str(capture), "--json"])
    assert json.loads(capsys.readouterr().out)["scale"] == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "0"], "--scale must be from 1e-09 to 1e+09, found 0"),
        (["--scale", "2", "--scale-between", "0,0,0", "1,0,0", "1"], "exclude each other"),
        (["--scale-between", "0,0,0", "1,0,0"], "the distance between them, found 2 values"),
        (["--scale-between", "0,0", "1,0,0", "1"], "expected a point as x,y,z or as a pixel"),
        (["--scale-between", "0,0,0", "0,0,0", "1"], "both points are the same"),
        (["--scale-between", "0,0,0", "1,0,0", "x"], "found the distance 'x'"),
        (["--scale-between", "0.png:1,1", "1,0,0", "1"], "is a pixel of a photo; pass --cameras"),
        (["--scale-between", "9.png:1,1", "1,0,0", "1", "--cameras", "transforms.json"],
         "has no photo '9.png' with a camera; expected one like"),
        (["--scale-between", "0.png:1,1", "1,0,0", "1", "--cameras", "transforms.json"],
         "no surface at 1,1 of"),
        (["--scale-between", "0.png:99,1", "1,0,0", "1", "--cameras", "transforms.json"],
         "99,1 is outside of"),
    ],
)  # fmt: skip
def test_bad_values_are_one_line(
    scene: Path, capture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
    words: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(scene.parent)
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "scene.ply", "-o", "b.ply", *words])
    text = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and message in text and not Path("b.ply").exists()


def test_markers_scale_given_cameras(tmp_path: Path) -> None:
    frames = write_photos(tmp_path, [("APRILTAG_36h11", 7, level(0, 0))], POSITIONS)
    world = Sim3(torch.tensor(2.0).double(), torch.eye(3).double(), torch.zeros(3).double())
    write_transforms(tmp_path / "transforms.json", [transform_frame(f, world) for f in frames])
    posed = estimate_cameras(load_capture(tmp_path), PoseConfig(marker_size=SIDE))
    found = torch.stack([f.camera.viewmat for f in posed.capture.frames if f.camera])
    distance = (camera_centers(found) - torch.tensor(POSITIONS).double()).norm(dim=1)
    assert float(distance.max()) < 0.01


def solved(folder: Path, frames: list[Frame]) -> PosedCapture:
    capture = replace(load_capture(folder), frames=tuple(frames))
    return PosedCapture(capture, "solved")


def test_gps_moves_solved_cameras(tmp_path: Path) -> None:
    frames = photos(tmp_path, METRES, METRES @ rotation(1) / 7.5)
    posed = solved(tmp_path, frames).in_metres(None, True)
    assert posed.gps_origin is not None
    found = torch.stack([f.camera.viewmat for f in posed.capture.frames if f.camera])
    centers = camera_centers(found).numpy()
    assert np.abs(centers - centers.mean(0) - (METRES - METRES.mean(0))).max() < 0.02


def test_gps_is_for_solved_cameras(tmp_path: Path) -> None:
    frames = photos(tmp_path, METRES, METRES)
    posed = replace(solved(tmp_path, frames), camera_source="given")
    with pytest.raises(ConfigError, match="gps is for estimated cameras"):
        posed.in_metres(None, True)


def test_transforms_follow_each_other(tmp_path: Path) -> None:
    frames = photos(tmp_path, METRES, METRES @ rotation(1) / 7.5)
    posed = solved(tmp_path, frames).in_metres(None, True).transformed(2.0, True)
    both = posed.capture_from_model
    assert both is not None
    before = camera_centers(torch.stack([f.camera.viewmat for f in frames if f.camera]))
    after = [f.camera.viewmat for f in posed.capture.frames if f.camera]
    assert torch.allclose(both.apply(before), camera_centers(torch.stack(after)), atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{"marker_size": 0.1, "gps": True}, {"metric_scale": 2.0, "gps": True}, {"marker_size": 0.0}],
)
def test_only_one_thing_sets_the_scale(options: dict) -> None:
    with pytest.raises(ConfigError):
        PoseConfig(**options)


def test_photos_without_markers_are_an_error(sample: Path) -> None:
    capture: Capture = load_capture(sample)
    with pytest.raises(InputError, match="no ArUco or AprilTag marker is found"):
        estimate_cameras(replace(capture, frames=capture.frames[:2]), PoseConfig(marker_size=0.1))
