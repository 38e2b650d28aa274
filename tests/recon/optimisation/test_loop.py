"""Test-time optimisation: held-out views improve, and everything else is left unchanged."""

from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from helpers import psnr, sample_views, swept

from recon import ReconError
from recon.cli.main import main
from recon.formats import load_gaussians
from recon.model.registry import build_model
from recon.optimisation.config import OptimiseConfig
from recon.optimisation.loop import optimise, take_steps
from recon.optimisation.parameters import Parameters, RateFactors
from recon.optimisation.photo_loss import ssim
from recon.types import Prediction, Views
from render import Gaussians, rasterize
from render.backends.threads import kernel_threads
from render.sh import colors_to_sh


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    return sample_views(sample, 96)


@pytest.fixture(scope="module")
def predicted(views: Views) -> Gaussians:
    return swept(views[:2])


def shown(gaussians: Gaussians, views: Views, view: int) -> torch.Tensor:
    return rasterize(gaussians, views.cameras[[view]]).rgb[0].clamp(0, 1)


def test_a_held_out_view_improves(views: Views, predicted: Gaussians) -> None:
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


def test_a_part_of_ssim_raises_the_similarity(views: Views, predicted: Gaussians) -> None:
    context, similarity = views[:2], []
    for weight in (0.0, 0.2):
        config = OptimiseConfig(steps=20, ssim_weight=weight)
        found = optimise(predicted, context, config).gaussians
        grey = (
            image.mean(0).expand(3, -1, -1) for image in (shown(found, views, 0), views.images[0])
        )
        similarity.append(float(ssim(*grey)))
    assert similarity[1] > similarity[0] + 0.002


def test_close_ups_have_no_gaps(views: Views, predicted: Gaussians) -> None:
    """Tiny bright Gaussians reproduce the views, but a closer camera would see gaps."""
    context = views[:2]
    found = optimise(predicted, context, OptimiseConfig(steps=40, lr_scale=0.2)).gaussians
    camera = views.cameras[[2]]
    close = camera.resized(4 * camera.width, 4 * camera.height)
    alphas = [rasterize(found, c).alpha.mean() for c in (camera, close)]
    assert float(alphas[1]) > float(alphas[0]) - 0.1


def test_colors_may_depend_on_the_direction(views: Views, predicted: Gaussians) -> None:
    start = optimise(predicted, views[:3], OptimiseConfig(steps=0, sh_degree=1)).gaussians
    assert start.sh_degree == 1 and torch.equal(start.cut_sh(0).sh, predicted.sh)
    before, after = (shown(g, views, 0) for g in (predicted, start))
    assert torch.allclose(before, after, atol=1e-3)
    found = optimise(predicted, views[:3], OptimiseConfig(steps=3, sh_degree=1)).gaussians
    assert float(found.sh[:, 1:].abs().max()) > 0


def test_zero_steps_change_nothing(views: Views, predicted: Gaussians) -> None:
    found = optimise(predicted, views[:2], OptimiseConfig(steps=0))
    assert found.steps == 0 and torch.equal(found.gaussians.means, predicted.means)
    assert torch.allclose(found.gaussians.scales, predicted.scales, rtol=1e-5)
    assert torch.allclose(found.gaussians.opacities, predicted.opacities, atol=1e-4)


def test_exposure_is_estimated_per_view(views: Views, predicted: Gaussians) -> None:
    """One view is darker: its exposure is lower, and the scene keeps its colours."""
    context = views[:2]
    images = context.images.clone()
    images[0] *= 0.7
    config = OptimiseConfig(steps=60, lr_exposure=0.05, lr_sh=0.003)
    found = optimise(predicted, replace(context, images=images), config)
    ratio = found.exposures[0] / found.exposures[1]
    assert torch.allclose(ratio, torch.full((3,), 0.7), atol=0.08)
    assert torch.allclose(found.exposures.log().mean(0), torch.zeros(3), atol=1e-5)


def test_exposures_are_learned_in_the_usual_steps_only(views: Views, predicted: Gaussians) -> None:
    """A longer run leaves to the colours what is theirs."""
    config, pair = OptimiseConfig(steps=8, usual_steps=4, lr_exposure=0.05), views[:2]
    scene = Parameters(predicted, pair.cameras, config)
    seen = [scene.exposures() for _ in take_steps(scene, pair, config, lambda done: None)]
    changes = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert changes == [True] * 3 + [False] * 4


@pytest.mark.parametrize("usual, last", [(None, 1.0), (16, 1.0), (4, 2.0)])
def test_positions_move_faster_in_a_longer_run(
    views: Views,
    predicted: Gaussians,
    monkeypatch: pytest.MonkeyPatch,
    usual: int | None,
    last: float,
) -> None:
    seen: list[RateFactors] = []
    monkeypatch.setattr(
        Parameters, "step", lambda self, views, chosen, factors, weights: seen.append(factors)
    )
    many, config = views[[0, 1, 2] * 3], OptimiseConfig(steps=16, usual_steps=usual)
    scene = Parameters(predicted, many.cameras, config)
    assert len(list(take_steps(scene, many, config, lambda done: None))) == 16
    assert [factors.positions for factors in seen] == [1.0] + [last] * 15


def test_invalid_pixels_have_no_effect(views: Views, predicted: Gaussians) -> None:
    """Pixels that undistortion left empty do not darken the scene."""
    context = views[:2]
    valid, images = context.valid.clone(), context.images.clone()
    valid[:, :, :, :40], images[:, :, :, :40] = 0, 0
    hidden = replace(context, valid=valid, images=images)
    found = optimise(predicted, hidden, OptimiseConfig(steps=10)).gaussians
    left = shown(found, context, 0)[..., :30]
    assert psnr(left, context.images[0][..., :30]) > 15


@pytest.mark.parametrize("seen, changes", [([], False), ([0], True), ([2], True)])
def test_pixels_of_one_view_change_everything(
    views: Views, predicted: Gaussians, seen: list[int], changes: bool
) -> None:
    valid = torch.zeros_like(views.valid)
    valid[seen] = 1
    # Rounder and fainter than predicted, so that every attribute improves.
    start = replace(predicted, opacities=0.8 * predicted.opacities, scales=1.2 * predicted.scales)
    found = optimise(start, replace(views, valid=valid), OptimiseConfig(steps=6)).gaussians
    for name, before in vars(start).items():
        change = (getattr(found, name) - before).abs().max()
        assert bool(change > 1e-3 * before.std()) == changes, name


def test_surfaces_become_opaque(views: Views, predicted: Gaussians) -> None:
    """Over black alone, brighter colours would make up for what is missing of the opacity."""
    context, leaks = views[:2], []
    for random in (False, True):
        config = OptimiseConfig(steps=30, random_backgrounds=random)
        found = optimise(predicted, context, config).gaussians
        leaks.append(1 - float(rasterize(found, views.cameras[[2]]).alpha.mean()))
    assert leaks[1] < 0.8 * leaks[0]


def test_black_in_front_of_masked_pixels_becomes_transparent(
    views: Views, predicted: Gaussians
) -> None:
    """Photos are black there, which black Gaussians explain as well as none."""
    black, alphas = replace(predicted, sh=colors_to_sh(torch.zeros_like(predicted.means))), []
    hidden = replace(views[:1], masks=0 * views.masks[:1], images=0 * views.images[:1])
    for random in (False, True):
        config = OptimiseConfig(steps=60, random_backgrounds=random)
        found = optimise(black, hidden, config).gaussians
        alphas.append(float(rasterize(found, views.cameras[[0]]).alpha.mean()))
    assert alphas[1] < 0.8 * alphas[0]


def test_time_limit_ends_the_optimisation(views: Views, predicted: Gaussians) -> None:
    config = OptimiseConfig(steps=100_000, seconds=1.0)
    found = optimise(predicted, views[:2], config)
    assert 1 <= found.steps < 10_000


def test_refine_option_of_the_command_line(sample: Path, tmp_path: Path) -> None:
    options = ["--resolution", "64", "--max-views", "2", "--quiet", "--prune", "0"]
    for name, steps in (("none.ply", "0s"), ("little.ply", "1"), ("more.ply", "3")):
        main([str(sample), "-o", str(tmp_path / name), *options, "--refine", steps])
    little, more = (load_gaussians(tmp_path / name) for name in ("little.ply", "more.ply"))
    assert len(little) == len(more) and not torch.equal(little.sh, more.sh)


def test_torch_has_one_thread_and_the_kernel_all(views: Views, predicted: Gaussians) -> None:
    found, threads = set(), torch.get_num_threads()

    def fail(done: float) -> None:
        found.add((torch.get_num_threads(), kernel_threads()))
        if done > 0.5:
            raise ValueError

    try:
        torch.set_num_threads(3)
        with pytest.raises(ValueError):
            optimise(predicted, views[:2], OptimiseConfig(steps=4), fail)
        assert found == {(1, 3)} and torch.get_num_threads() == kernel_threads() == 3
    finally:
        torch.set_num_threads(threads)
