"""Scenes of any scale at any coordinates: the same quality, and files where the capture is."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import psnr, random_gaussians

from recon import ReconWarning, load, reconstruct
from recon.capture import Capture, load_capture, load_views, pinhole_cameras
from recon.capture.cameras import relative_to, transform_frame
from recon.cli import main as cli
from recon.config import OptimiseConfig, ReconstructConfig, ViewConfig
from recon.errors import InputError, ReconError
from recon.formats import save_gaussians
from recon.local_frame import unit_scale, world_cameras
from recon.precision import WORLD, local_origin
from recon.scene import Scene
from render import Cameras, Sim3, rasterize
from render.cameras import camera_centers

CONFIG = ReconstructConfig(
    views=ViewConfig(max_views=3, resolution=64), optimise=OptimiseConfig(steps=3)
)
UTM = (5e5, 5.4e6, 300.0)
# South of the equator, northings are up to 10,000,000.
SOUTH = (5e5, 9.4e6, 300.0)


@pytest.fixture(scope="module")
def capture(sample: Path) -> Capture:
    found = load_capture(sample)
    return replace(found, frames=found.frames[:6:2])


def moved(capture: Capture, scale: float, offset: tuple[float, float, float]) -> Capture:
    transform = Sim3(
        torch.tensor(scale, dtype=torch.float64),
        torch.eye(3, dtype=torch.float64),
        torch.tensor(offset, dtype=torch.float64),
    )
    frames = tuple(transform_frame(frame, transform) for frame in capture.frames)
    return replace(capture, frames=frames)


def fidelity(scene: Scene, capture: Capture) -> float:
    """Render the photos' cameras and compare with the photos (dB)."""
    views = load_views(relative_to(capture, scene.origin).frames, 64)
    return psnr(scene.render(views.cameras).rgb, views.images)


@pytest.fixture(scope="module")
def usual(capture: Capture) -> float:
    return fidelity(reconstruct(capture, CONFIG), capture)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [
        (1e-4, WORLD),
        (1e5, WORLD),
        (1.0, UTM),
        (1e-3, (1e3, 0.0, -2e3)),
        (100.0, (0.0, 1e7, 1e7)),
    ],
)
def test_quality_does_not_depend_on_scale_and_origin(
    scale: float, offset: tuple[float, float, float], capture: Capture, usual: float, tmp_path: Path
) -> None:
    there = moved(capture, scale, offset)
    scene = reconstruct(there, CONFIG)
    assert fidelity(scene, there) == pytest.approx(usual, abs=0.3)
    assert (scene.origin == WORLD) == (offset == WORLD)
    path = tmp_path / "scene.ply"
    if offset == WORLD:
        scene.save(path)
    else:
        with pytest.warns(ReconWarning, match="written as float64"):
            scene.save(path)
    # The file is where the capture is, whatever origin it is read around.
    found = load(path)
    assert fidelity(found, there) == pytest.approx(usual, abs=0.3)
    middle = found.gaussians.means.median(0).values.double() + torch.tensor(found.origin)
    away = (middle - torch.tensor(offset).double()) / scale
    assert float(away.norm()) < 20


def test_cameras_at_one_position_are_refused_anywhere(capture: Capture) -> None:
    for offset in (WORLD, UTM):
        frames = moved(capture, 1e-12, offset).frames
        if offset == WORLD:
            first = frames[0].camera
            frames = tuple(replace(frame, camera=first) for frame in frames)
        with pytest.raises(InputError, match="at the same position"):
            reconstruct(replace(capture, frames=frames), CONFIG)


def test_origins_are_chosen_by_precision() -> None:
    cloud = random_gaussians(200, torch.Generator()).means.numpy()
    assert local_origin(cloud) == local_origin(cloud + 100) == WORLD
    x, y, z = local_origin(cloud + UTM)
    assert max(abs(x - UTM[0]), abs(y - UTM[1]), abs(z - UTM[2])) <= 1
    assert local_origin(1e-3 * cloud + 10) != WORLD
    # One point far away says nothing about the others.
    cloud[0] = 1e9
    assert local_origin(cloud) == WORLD


def test_rounding_of_views_is_told(capture: Capture) -> None:
    with pytest.warns(ReconWarning, match=r"cameras around .* are rounded by up to 0\.25 units"):
        load_views(moved(capture, 1.0, UTM), 32)


@pytest.mark.parametrize("factor", [1e-5, 1e-3, 1.0, 1e4])
def test_renders_do_not_depend_on_the_scale(factor: float) -> None:
    cloud = random_gaussians(100, torch.Generator().manual_seed(1), dtype=torch.float32)
    cloud = replace(cloud, means=cloud.means + torch.tensor([0.0, 0.0, 3.0]))
    other = replace(cloud, means=factor * cloud.means, scales=factor * cloud.scales)
    camera = Cameras.from_fov(torch.eye(4)[None], 60.0, 32, 24)
    one, two = (rasterize(each, camera).rgb for each in (cloud, other))
    assert torch.allclose(one, two, atol=1e-3)


def test_cameras_return_to_the_world(capture: Capture) -> None:
    there = moved(capture, 1.0, UTM)
    local = pinhole_cameras(relative_to(there, UTM))
    given = torch.stack([frame.camera.viewmat for frame in there.frames if frame.camera])
    assert torch.allclose(
        world_cameras(local, UTM).viewmats[:, :3, :3], given[:, :3, :3], atol=1e-6
    )
    # Rotations rounded to float32 must not move positions 5e6 units away.
    centers = camera_centers(world_cameras(local, UTM).viewmats)
    assert torch.allclose(centers, camera_centers(given), rtol=0, atol=1e-4)


def test_units_are_powers_of_two(capture: Capture) -> None:
    cameras = pinhole_cameras(capture)
    assert unit_scale(cameras) == 1
    for scale in (1e-4, 1e6):
        factor = unit_scale(pinhole_cameras(moved(capture, scale, WORLD)))
        assert torch.tensor(factor).log2().frac() == 0 and 0.1 < factor * scale < 10


ERRORS = {".spz": "0.5", ".splat": "0.25", ".compressed.ply": "0.25"}


@pytest.mark.parametrize("extension", [".ply", ".glb", ".sog", *ERRORS])
def test_files_hold_coordinates_or_tell(extension: str, tmp_path: Path) -> None:
    cloud = random_gaussians(300, torch.Generator().manual_seed(2), dtype=torch.float32)
    path = tmp_path / f"a{extension}"
    if extension != ".glb":
        error = ERRORS.get(extension, "2.57" if extension == ".sog" else "0.25")
        with pytest.warns(ReconWarning, match=rf"by (up to )?{error} units"):
            save_gaussians(path, cloud, UTM)
    else:
        save_gaussians(path, cloud, UTM)
    found = load(path)
    shift = torch.tensor(found.origin, dtype=torch.float64) - torch.tensor(UTM).double()
    nearest = torch.cdist(cloud.means.double(), found.gaussians.means + shift).amin(1)
    limit = 2 * float(ERRORS[extension]) if extension in ERRORS else 1e-3
    assert float(nearest.max()) < limit
    assert len(found) == 300


def test_compressed_files_tell_their_rounding(tmp_path: Path) -> None:
    cloud = random_gaussians(60, torch.Generator().manual_seed(3), dtype=torch.float32)
    save_gaussians(tmp_path / "a.glb", cloud, UTM)
    with pytest.warns(ReconWarning, match=r"b\.spz: \.spz rounds positions by 0\.5 units"):
        load(tmp_path / "a.glb").compress(tmp_path / "b.spz", keep_fraction=0.5)
    with pytest.warns(ReconWarning, match=r"b\.sog: viewers .* round positions") as told:
        found = load(tmp_path / "a.glb").compress(tmp_path / "b.sog", keep_fraction=0.9)
    assert len(told) == 1
    assert found.loss_db < 5


def test_coordinates_beyond_a_format_are_refused_before_the_work(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = random_gaussians(40, torch.Generator().manual_seed(0)).to(torch.float32)
    with pytest.raises(ReconError, match="beyond the range of SPZ, 8,388,607; write .ply"):
        save_gaussians(tmp_path / "a.spz", cloud, SOUTH)
    with pytest.warns(ReconWarning, match="round positions by up to"):
        save_gaussians(tmp_path / "a.sog", cloud, SOUTH)
    document = json.loads((sample / "transforms.json").read_text())
    for frame in document["frames"]:
        frame["file_path"] = str(sample / frame["file_path"])
        for row, shift in zip(frame["transform_matrix"], SOUTH, strict=False):
            row[3] += shift
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    with pytest.raises(SystemExit) as end:
        cli.main([str(tmp_path), "-o", str(tmp_path / "b.spz"), "--quiet"])
    assert end.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "coordinates up to 9,399,99" in error and "--center" in error
    assert not (tmp_path / "b.spz").exists()
