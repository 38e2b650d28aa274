"""Point clouds of scenes, read back by laspy, trimesh and NumPy."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_gaussians

from recon import InputError, MissingDependency, ReconError
from recon.cli import main as cli
from recon.export.point_cloud import PointCloud, write_point_cloud
from recon.formats import SceneSource, load_gaussians, save_gaussians
from recon.scene_extensions import POINT_CLOUD_EXTENSIONS
from render import Gaussians
from render.sh import C0

UTM = (500_000.0, 5_000_000.0, 120.0)
COUNT, OPAQUE = 400, 300


@pytest.fixture
def scene() -> Gaussians:
    gaussians = random_gaussians(COUNT, torch.Generator().manual_seed(0), 1).to(torch.float32)
    opacities = torch.full((COUNT,), 0.8)
    opacities[OPAQUE:] = 0.05
    return replace(gaussians, opacities=opacities, sh=gaussians.sh.clamp(-1, 1))


def points_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read positions (float64) and colours (0 to 1) by the library of a format."""
    if path.suffix in (".las", ".laz"):
        laspy = pytest.importorskip("laspy")
        read = laspy.read(path)
        colors = np.stack([read.red, read.green, read.blue], 1)
        return np.asarray(read.xyz), colors / 65535
    if path.suffix == ".xyz":
        rows = np.loadtxt(path)
        return rows[:, :3], rows[:, 3:] / 255
    trimesh = pytest.importorskip("trimesh")
    cloud = trimesh.load(path)
    return np.asarray(cloud.vertices), cloud.colors[:, :3] / 255


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), UTM])
@pytest.mark.parametrize("extension", POINT_CLOUD_EXTENSIONS)
def test_points_are_those_of_the_scene(
    extension: str, origin: tuple[float, float, float], scene: Gaussians, tmp_path: Path
) -> None:
    path = tmp_path / f"A{extension.upper() if extension != '.points.ply' else extension}"
    cloud = PointCloud.of(path, SceneSource.of(scene, origin))
    write_point_cloud(path, cloud)
    positions, colors = points_of(path.rename(tmp_path / f"b{extension}"))
    opaque = scene[:OPAQUE]
    expected = opaque.means.double().numpy() + origin
    extent = np.ptp(expected, axis=0).max()
    assert len(positions) == cloud.count == OPAQUE
    # Half a step of float32 at the extent.
    assert np.abs(positions - expected).max() <= 2.0**-24 * extent
    shown = (0.5 + C0 * opaque.sh[:, 0].numpy()).clip(0, 1)
    levels = 65535 if extension in (".las", ".laz") else 255
    assert np.abs(colors - shown).max() <= 0.51 / levels


@pytest.mark.parametrize("extension", POINT_CLOUD_EXTENSIONS)
def test_equal_scenes_give_equal_files(extension: str, scene: Gaussians, tmp_path: Path) -> None:
    written = []
    for name in "ab":
        path = tmp_path / f"{name}{extension}"
        write_point_cloud(path, PointCloud.of(path, SceneSource.of(scene)))
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_convert_tells_what_is_lost(
    scene: Gaussians, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_gaussians(tmp_path / "a.ply", scene)
    out = tmp_path / "b.las"
    cli.main(["convert", str(tmp_path / "a.ply"), "-o", str(out)])
    said = capsys.readouterr().out
    assert "300 points, 100 Gaussians of opacity below 0.1 left out" in said
    assert "without sizes, rotations, opacities and SH of degrees 1 to 1" in said
    cli.main(["convert", str(tmp_path / "a.ply"), "-o", str(out), "--min-opacity", "0", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["points"] == COUNT and facts["left_out_gaussians"] == 0


@pytest.mark.parametrize(
    ("output", "option", "value", "error"),
    [
        ("b.spz", "--min-opacity", "0.2", "--min-opacity is for point clouds"),
        ("b.xyz", "--sh-degree", "1", "--sh-degree is for scenes"),
        ("b.xyz", "--min-opacity", "2", "must be from 0 to 1"),
        ("b.las", "--cameras", "x", "needs a format that holds cameras (.usdc, .usda, .usdz)"),
        ("b.xyz", "--min-opacity", "0.9", "none of 400 Gaussians has an opacity of 0.9"),
    ],
)
def test_options_that_do_not_fit(
    output: str, option: str, value: str, error: str, scene: Gaussians, tmp_path: Path, capsys
) -> None:
    save_gaussians(tmp_path / "a.ply", scene)
    with pytest.raises(SystemExit) as end:
        cli.main(["convert", f"{tmp_path}/a.ply", "-o", f"{tmp_path}/{output}", option, value])
    assert end.value.code == 2
    assert error in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"]


def test_a_point_cloud_is_no_scene(scene: Gaussians, tmp_path: Path) -> None:
    path = tmp_path / "a.points.ply"
    with pytest.raises(InputError, match="is a point cloud; write a scene"):
        save_gaussians(path, scene)
    write_point_cloud(path, PointCloud.of(path, SceneSource.of(scene)))
    with pytest.raises(ReconError, match="PLY of a point cloud, without Gaussians"):
        load_gaussians(path)


def test_las_without_its_library(
    scene: Gaussians, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = PointCloud.of(tmp_path, SceneSource.of(scene))
    monkeypatch.setitem(sys.modules, "lazrs", None)
    with pytest.raises(MissingDependency, match=r"pip install 'reconsplat\[las\]'"):
        write_point_cloud(tmp_path / "a.laz", cloud)
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(MissingDependency, match=r"pip install 'reconsplat\[las\]'"):
        write_point_cloud(tmp_path / "a.las", cloud)
    assert not list(tmp_path.iterdir())


def test_cameras_of_a_capture_go_into_usd(
    scene: Gaussians, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pxr")
    given, out = tmp_path / "a.ply", tmp_path / "b.usdz"
    save_gaussians(given, scene)
    cli.main(["convert", str(given), "-o", str(out), "--cameras", str(sample)])
    assert "400 Gaussians, SH degree 1, 8 cameras" in capsys.readouterr().out
    cli.main(["info", str(out), "--json"])
    assert json.loads(capsys.readouterr().out)["cameras"] == 8
    cli.main(["convert", str(out), "-o", str(tmp_path / "c.spz")])
    assert ".spz cannot hold the 8 cameras of the scene; .usdc" in capsys.readouterr().err
