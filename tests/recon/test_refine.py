"""Test-time optimisation: it helps where it is not told the answer, and leaves the rest alone."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from helpers import psnr

from recon import ReconError
from recon.capture import Views, load_views, open_capture
from recon.cli import main
from recon.formats import load_gaussians
from recon.model.registry import build_model
from recon.refine import RefineConfig, parse_refine, refine
from render import Gaussians, rasterize


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    """Photos 2, 4 (context) and 3 (held out)."""
    frames = open_capture(sample).frames
    return load_views([frames[i] for i in (2, 4, 3)], 96)


@pytest.fixture(scope="module")
def predicted(views: Views) -> Gaussians:
    return build_model("plane-sweep")(views.select(slice(0, 2)), lambda done: None).gaussians


def shown(gaussians: Gaussians, views: Views, view: int) -> torch.Tensor:
    return rasterize(gaussians, views.cameras[[view]]).rgb[0].clamp(0, 1)


def test_a_held_out_photo_gains(views: Views, predicted: Gaussians) -> None:
    context = views.select(slice(0, 2))
    found = refine(predicted, context, RefineConfig(steps=20))
    before, after = (
        psnr(shown(g, views, 2), views.images[2]) for g in (predicted, found.gaussians)
    )
    assert after > before + 0.5
    assert found.steps == 20 and found.losses[-1] < 0.7 * found.losses[0]
    found.gaussians.validate()
    moved = (found.gaussians.means - predicted.means).norm(dim=-1)
    assert float((moved / predicted.scales.amax(-1)).max()) < 20 * 0.1 * 1.8
    again = refine(predicted, context, RefineConfig(steps=20)).gaussians
    for field in fields(Gaussians):
        assert torch.equal(getattr(again, field.name), getattr(found.gaussians, field.name))


def test_nothing_to_do_changes_nothing(views: Views, predicted: Gaussians) -> None:
    found = refine(predicted, views.select(slice(0, 2)), RefineConfig(steps=0))
    assert found.steps == 0 and torch.equal(found.gaussians.means, predicted.means)
    assert torch.allclose(found.gaussians.scales, predicted.scales, rtol=1e-5)
    assert torch.allclose(found.gaussians.opacities, predicted.opacities, atol=1e-4)


def test_exposure_belongs_to_the_photos(views: Views, predicted: Gaussians) -> None:
    """One photo taken darker: its gain says so, and the scene keeps its colours."""
    context = views.select(slice(0, 2))
    images = context.images.clone()
    images[0] *= 0.7
    config = RefineConfig(steps=60, gain=0.05, color=0.003)
    found = refine(predicted, replace(context, images=images), config)
    ratio = found.gains[0] / found.gains[1]
    assert torch.allclose(ratio, torch.full((3,), 0.7), atol=0.08)
    assert torch.allclose(found.gains.log().mean(0), torch.zeros(3), atol=1e-5)


def test_invalid_pixels_teach_nothing(views: Views, predicted: Gaussians) -> None:
    """What undistortion left empty does not darken the scene."""
    context = views.select(slice(0, 2))
    valid, images = context.valid.clone(), context.images.clone()
    valid[:, :, :, :40], images[:, :, :, :40] = 0, 0
    hidden = replace(context, valid=valid, images=images)
    found = refine(predicted, hidden, RefineConfig(steps=10)).gaussians
    left = shown(found, context, 0)[..., :30]
    assert psnr(left, context.images[0][..., :30]) > 15


def test_time_is_kept(views: Views, predicted: Gaussians) -> None:
    config = RefineConfig(steps=100_000, seconds=1.0)
    found = refine(predicted, views.select(slice(0, 2)), config)
    assert 1 <= found.steps < 10_000


def test_option_is_read() -> None:
    assert parse_refine("30") == RefineConfig(steps=30)
    assert parse_refine("20s").seconds == 20 and parse_refine("0").steps == 0
    for text in ("fast", "-3", "1.5m", "s", ""):
        with pytest.raises(ReconError, match="--refine must be steps"):
            parse_refine(text)


def test_command_line(sample: Path, tmp_path: Path) -> None:
    options = ["--resolution", "64", "--max-views", "2", "--quiet"]
    for name, steps in (("plain.ply", "0"), ("fine.ply", "3")):
        main([str(sample), "-o", str(tmp_path / name), *options, "--refine", steps])
    plain, fine = (load_gaussians(tmp_path / name) for name in ("plain.ply", "fine.ply"))
    assert len(plain) == len(fine) and not torch.equal(plain.sh, fine.sh)
