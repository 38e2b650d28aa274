"""Bars on real photographs; skipped where the captures are absent."""

from pathlib import Path

import pytest
import torch
from helpers import psnr

from recon import OptimiseConfig, ReconstructConfig, ViewConfig, reconstruct
from recon.capture import load_capture, load_views
from recon.formats import load_gaussians, save_gaussians
from render import rasterize
from training.evaluation.suite import read_split

pytestmark = pytest.mark.captures
ALL = ["dtu-scan65", "fountain", "fox", "kitti360-drive", "lego", "llff-horns"]
ALL += ["mary-rose", "monstree", "sceaux-castle", "table"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fountain", "llff-horns", "table"])
def test_scene_file_gives_the_photo_back(name: str, captures: Path, tmp_path: Path) -> None:
    """The PLY is in the capture's frame: its own cameras see the photo in it."""
    from dataclasses import replace

    capture = load_capture(captures / name)
    frames = read_split(capture, "2v").context
    config = ReconstructConfig(ViewConfig(resolution=256))
    scene = reconstruct(replace(capture, frames=frames), config)
    save_gaussians(tmp_path / "scene.ply", scene.gaussians)
    views = load_views(frames, 256)
    shown = rasterize(load_gaussians(tmp_path / "scene.ply"), views.cameras[[0]])
    assert psnr(shown.rgb[0] * views.valid[0], views.images[0]) > 20


@pytest.mark.parametrize("name", ALL)
def test_every_capture_reconstructs(name: str, captures: Path) -> None:
    config = ReconstructConfig(
        ViewConfig(max_views=3, resolution=96), optimise=OptimiseConfig(steps=5)
    )
    scene = reconstruct(captures / name, config)
    scene.gaussians.validate()
    masks = load_views(scene.provenance.frames, resolution=96).masks
    wanted = int((masks >= 0.5).sum())
    # Half of them are merged.
    assert 0.3 * wanted < len(scene.gaussians) <= 0.6 * wanted
    depth = (scene.gaussians.means - scene.cameras.centers.mean(0)).norm(dim=1)
    assert bool(torch.isfinite(depth).all())
