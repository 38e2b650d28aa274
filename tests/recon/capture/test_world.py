"""Captures in another frame of the world: scale, middle, and which way is down."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recon import PoseConfig, ReconError
from recon.capture import load_capture
from recon.capture.cameras import transform_frame, world_transform
from recon.capture.exif import exif_down
from recon.capture.images import read_image
from recon.capture.sfm import SolveConfig, solve_cameras
from recon.cli import main as cli
from recon.formats import load_gaussians
from render.cameras import camera_centers


def test_no_other_world_is_none(sample: Path) -> None:
    assert world_transform(load_capture(sample).frames, 1.0, False) is None


def test_depths_and_points_go_along(sample: Path) -> None:
    frame = load_capture(sample).frames[0]
    points = torch.rand(5, 3, dtype=torch.float64) + 2
    frame = replace(frame, points=points, depth_bounds=(1.0, 4.0))
    world = world_transform([frame], 2.5, True)
    assert world is not None
    there = transform_frame(frame, world)
    assert there.depth_bounds == (2.5, 10.0)
    assert torch.allclose(camera_centers(there.camera.viewmat[None]), torch.zeros(1, 3).double())

    def seen(frame) -> torch.Tensor:
        viewmat = frame.camera.viewmat
        return frame.points @ viewmat[:3, :3].T + viewmat[:3, 3]

    assert torch.allclose(seen(there), 2.5 * seen(frame))


def test_scene_of_another_size(sample: Path, tmp_path: Path) -> None:
    """--metric-scale and --center transform the scene and its cameras alike."""
    fast = ["--resolution", "64", "--max-views", "2", "--refine", "0", "--quiet"]
    cli.main([str(sample), "-o", str(tmp_path / "a.ply"), *fast])
    cameras = str(tmp_path / "c.json")
    options = ["--metric-scale", "3", "--center", "--save-cameras", cameras]
    cli.main([str(sample), "-o", str(tmp_path / "b.ply"), *options, *fast])
    plain, large = load_gaussians(tmp_path / "a.ply"), load_gaussians(tmp_path / "b.ply")
    # Their order may differ where two matter as much.
    here, there = (3 * (plain.means - plain.means.mean(0)), large.means - large.means.mean(0))
    large = large[torch.cdist(here, there).argmin(1)]
    ratio = large.scales / plain.scales
    assert float(((ratio - 3).abs() < 0.1).float().mean()) > 0.9
    away = large.means - 3 * plain.means
    assert float((away - away.mean(0)).norm(dim=1).median()) < 0.02 * float(large.means.std())
    centers = camera_centers(
        torch.stack([f.camera.viewmat for f in load_capture(Path(cameras)).frames])
    )
    given = camera_centers(torch.stack([f.camera.viewmat for f in load_capture(sample).frames]))
    spread = (given - given.mean(0)).norm(dim=1).max()
    assert float((centers - centers.mean(0)).norm(dim=1).max()) <= 3.01 * float(spread)


def test_bad_scale(sample: Path) -> None:
    with pytest.raises(ReconError, match="metric_scale must be above 0, got -1"):
        PoseConfig(metric_scale=-1.0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_down_in_the_photo_as_stored(orientation: int, tmp_path: Path) -> None:
    """A bright stripe at the bottom of the displayed photo is where `exif_down` points."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((9, 9, 3), np.uint8)
    pixels[4, 4] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    x, y = exif_down(tmp_path / "a.png")
    pixels[4 + 4 * y, 4 + 4 * x] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    shown, _ = read_image(tmp_path / "a.png", apply_orientation=True)
    assert shown[-1, 4, 0] == 1 and shown[:4].sum() == 0


@pytest.mark.parametrize("orientation, down", [(1, (0, 1)), (6, (1, 0)), (8, (-1, 0))])
def test_one_photo_stands_upright(orientation: int, down: tuple, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    (frame,) = solve_cameras(
        load_capture(tmp_path), SolveConfig(), lambda stage, done: None
    ).capture.frames
    assert (frame.camera.viewmat[:3, :3] @ torch.tensor([0.0, 1.0, 0.0]).double())[
        :2
    ].tolist() == list(down)
    assert torch.allclose(torch.linalg.det(frame.camera.viewmat), torch.ones(()).double())
