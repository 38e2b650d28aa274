"""Test-time optimisation: it helps where it is not told the answer, and leaves the rest alone."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from helpers import psnr, sample_views, swept

from recon import ReconError
from recon.capture import load_capture, load_views
from recon.cli.main import main
from recon.cli.options import parse_refine
from recon.formats import load_gaussians
from recon.model.registry import build_model
from recon.optimise import OptimiseConfig, optimise, select_num_steps
from recon.optimise.early_stopping import HeldOut
from recon.types import Prediction, Views
from render import Gaussians, rasterize


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    return sample_views(sample, 96)


@pytest.fixture(scope="module")
def predicted(views: Views) -> Gaussians:
    return swept(views[:2])


def shown(gaussians: Gaussians, views: Views, view: int) -> torch.Tensor:
    return rasterize(gaussians, views.cameras[[view]]).rgb[0].clamp(0, 1)


def test_a_held_out_photo_gains(views: Views, predicted: Gaussians) -> None:
    context = views[:2]
    found = optimise(predicted, context, OptimiseConfig(steps=20))
    before, after = (
        psnr(shown(g, views, 2), views.images[2]) for g in (predicted, found.gaussians)
    )
    assert after > before + 0.5
    assert found.steps == 20 and found.losses[-1] < 0.7 * found.losses[0]
    found.gaussians.validate()
    moved = (found.gaussians.means - predicted.means).norm(dim=-1)
    assert float((moved / predicted.scales.amax(-1)).max()) < 20 * 0.3 * 1.8
    again = optimise(predicted, context, OptimiseConfig(steps=20)).gaussians
    for field in fields(Gaussians):
        assert torch.equal(getattr(again, field.name), getattr(found.gaussians, field.name))


def test_a_closer_look_shows_no_gaps(views: Views, predicted: Gaussians) -> None:
    """Photos cannot tell tiny bright Gaussians from a closed surface; whoever steps closer can."""
    context = views[:2]
    found = optimise(predicted, context, OptimiseConfig(steps=40, lr_scale=0.2)).gaussians
    camera = views.cameras[[2]]
    close = camera.resized(4 * camera.width, 4 * camera.height)
    alphas = [rasterize(found, c).alpha.mean() for c in (camera, close)]
    assert float(alphas[1]) > float(alphas[0]) - 0.1


def test_nothing_to_do_changes_nothing(views: Views, predicted: Gaussians) -> None:
    found = optimise(predicted, views[:2], OptimiseConfig(steps=0))
    assert found.steps == 0 and torch.equal(found.gaussians.means, predicted.means)
    assert torch.allclose(found.gaussians.scales, predicted.scales, rtol=1e-5)
    assert torch.allclose(found.gaussians.opacities, predicted.opacities, atol=1e-4)


def test_exposure_belongs_to_the_photos(views: Views, predicted: Gaussians) -> None:
    """One photo taken darker: its gain says so, and the scene keeps its colours."""
    context = views[:2]
    images = context.images.clone()
    images[0] *= 0.7
    config = OptimiseConfig(steps=60, lr_exposure=0.05, lr_sh=0.003)
    found = optimise(predicted, replace(context, images=images), config)
    ratio = found.exposures[0] / found.exposures[1]
    assert torch.allclose(ratio, torch.full((3,), 0.7), atol=0.08)
    assert torch.allclose(found.exposures.log().mean(0), torch.zeros(3), atol=1e-5)


def test_invalid_pixels_teach_nothing(views: Views, predicted: Gaussians) -> None:
    """What undistortion left empty does not darken the scene."""
    context = views[:2]
    valid, images = context.valid.clone(), context.images.clone()
    valid[:, :, :, :40], images[:, :, :, :40] = 0, 0
    hidden = replace(context, valid=valid, images=images)
    found = optimise(predicted, hidden, OptimiseConfig(steps=10)).gaussians
    left = shown(found, context, 0)[..., :30]
    assert psnr(left, context.images[0][..., :30]) > 15


def test_more_photos_take_more_steps() -> None:
    config = OptimiseConfig(steps=10)
    assert [config.for_num_views(v).steps for v in (1, 2, 4, 6, 8)] == [10, 10, 20, 20, 20]
    assert OptimiseConfig(steps=3000).for_num_views(16).steps == 3000
    means = [OptimiseConfig(lr_mean=0.3).for_num_views(v).lr_mean for v in (1, 2, 3, 8)]
    assert means == pytest.approx([0.06, 0.06, 0.1, 0.3])
    scales = [OptimiseConfig(lr_scale=0.08).for_num_views(v).lr_scale for v in (1, 3, 4)]
    assert scales == pytest.approx([0.02, 0.02, 0.08])


def test_time_is_kept(views: Views, predicted: Gaussians) -> None:
    config = OptimiseConfig(steps=100_000, seconds=1.0)
    found = optimise(predicted, views[:2], config)
    assert 1 <= found.steps < 10_000


def test_option_is_read() -> None:
    assert parse_refine("30") == OptimiseConfig(steps=30) != OptimiseConfig()
    assert parse_refine("20s").seconds == 20 and parse_refine("0").steps == 0
    for text in ("fast", "-3", "1.5m", "s", ""):
        with pytest.raises(ReconError, match="refine must be steps"):
            parse_refine(text)


def test_command_line(sample: Path, tmp_path: Path) -> None:
    options = ["--resolution", "64", "--max-views", "2", "--quiet", "--prune", "0"]
    for name, steps in (("plain.ply", "0"), ("fine.ply", "3")):
        main([str(sample), "-o", str(tmp_path / name), *options, "--refine", steps])
    plain, fine = (load_gaussians(tmp_path / name) for name in ("plain.ply", "fine.ply"))
    assert len(plain) == len(fine) and not torch.equal(plain.sh, fine.sh)


@pytest.fixture(scope="module")
def four(sample: Path) -> tuple[Prediction, Views]:
    frames = load_capture(sample).frames
    views = load_views([frames[i] for i in (1, 2, 4, 5)], 64)
    return build_model("plane-sweep")(views, lambda done: None), views


def test_steps_that_help_a_photo_left_out_are_all_taken(four: tuple[Prediction, Views]) -> None:
    found, views = four
    assert (
        select_num_steps(found.gaussians, found.source_view, views, OptimiseConfig(steps=20))
        is None
    )


def test_steps_that_only_memorise_are_not_taken(four: tuple[Prediction, Views]) -> None:
    """Photos of noise: each can be learned, and none says anything about another."""
    found, views = four
    torch.manual_seed(0)
    smooth = torch.full_like(views.images, 0.5)
    gray = replace(found.gaussians, sh=torch.zeros_like(found.gaussians.sh))
    noise = replace(views, images=(smooth + 0.3 * torch.randn_like(smooth)).clamp(0, 1))
    config = OptimiseConfig(steps=40, lr_sh=0.05)
    steps = select_num_steps(gray, found.source_view, noise, config)
    assert steps is not None and steps <= 8


def test_few_photos_cannot_be_checked(views: Views) -> None:
    context = views[:2]
    found = build_model("constant-depth")(context, lambda done: None)
    assert (
        select_num_steps(found.gaussians, found.source_view, context, OptimiseConfig(steps=5))
        is None
    )


def test_the_photo_left_out_is_shown_by_the_others_only(four: tuple[Prediction, Views]) -> None:
    found, views = four
    held_out = HeldOut.of(found.gaussians, found.source_view, views)
    assert len(held_out.train_views) == 3 and len(held_out.target) == 1
    assert held_out.target.names[0] not in held_out.train_views.names
    chosen = views.names.index(held_out.target.names[0])
    assert len(held_out.gaussians) == int((found.source_view != chosen).sum())
    assert 0.3 < float(held_out.covered.float().mean()) <= 1.0
    # A photo taken darker is no error.
    darker = replace(held_out, target=replace(held_out.target, images=0.5 * held_out.target.images))
    errors = [h.error(held_out.gaussians) for h in (held_out, darker)]
    assert errors[1] == pytest.approx(errors[0] / 4, rel=1e-3)


def test_time_is_shared_with_the_check() -> None:
    config = parse_refine("20s")
    assert config.with_time_fraction(0.3).seconds == 6 and config.remaining(5.0, None).seconds == 15
    assert config.remaining(30.0, 12) == replace(config, seconds=0.0, steps=12)
    assert OptimiseConfig(steps=30).with_time_fraction(0.3) == OptimiseConfig(steps=30).remaining(
        9.0, 50
    )
