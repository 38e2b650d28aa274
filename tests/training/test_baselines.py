"""The competitor must be a fair one: it learns, and its moves keep the picture."""

import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from recon.capture import load_capture, load_views
from recon.types import Views
from render import Gaussians, rasterize
from training.baselines import ScratchConfig, optimise, random_points, surface_points
from training.baselines.compare import CompareConfig, as_lines, compare_case
from training.baselines.gsplat_mcmc import _draw, _Scene
from training.baselines.relocation import position_noise, relocated
from training.evaluation.suite import Case


@pytest.fixture(scope="module")
def views() -> Views:
    frames = load_capture(ROOT / "assets" / "sample").frames[:3]
    return load_views(frames, 64)


def one_gaussian(opacity: float, scale: float) -> Gaussians:
    return Gaussians(
        torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), scale),
        torch.tensor([opacity]), torch.ones(1, 1, 3),
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_copies_together_look_like_the_one(count: int, views: Views) -> None:
    """Equation 9 keeps the sum over a line through the middle, so pictures are close, not equal."""
    one = one_gaussian(0.8, 0.3)
    opacities, scales = relocated(one.opacities, one.scales, torch.tensor([count]))
    assert float(1 - (1 - opacities[0]) ** count) == pytest.approx(0.8, abs=1e-5)
    many = Gaussians(
        one.means.repeat(count, 1), one.quats.repeat(count, 1), scales.repeat(count, 1),
        opacities.repeat(count), one.sh.repeat(count, 1, 1),
    )  # fmt: skip
    camera = views.cameras[[0]]
    before, after = (rasterize(g, camera).rgb for g in (one, many))
    assert float((before - after).abs().max()) < 0.12
    assert float(after.sum() / before.sum()) == pytest.approx(1.0, abs=0.12)
    if count == 1:
        assert torch.allclose(before, after, atol=1e-6)


def test_noise_moves_only_the_faint_and_along_their_shape() -> None:
    torch.manual_seed(0)
    covars = torch.diag(torch.tensor([1.0, 1e-6, 1e-6])).repeat(1000, 1, 1)
    faint = position_noise(covars, torch.full((1000,), 0.001), 1.0)
    assert float(faint[:, 0].std()) > 0.5 and float(faint[:, 1:].abs().max()) < 1e-4
    assert float(position_noise(covars, torch.full((1000,), 0.5), 1.0).abs().max()) < 1e-6


def test_draws_follow_the_weights() -> None:
    torch.manual_seed(0)
    found = torch.bincount(_draw(torch.tensor([1.0, 0.0, 3.0]), 4000), minlength=3)
    assert found[1] == 0 and 0.7 < float(found[2]) / 4000 < 0.8


def test_dead_gaussians_move_to_live_ones(views: Views) -> None:
    start = random_points(views, 500, seed=0)
    start.opacities[:100] = 0.001
    scene = _Scene(start, 1.0, ScratchConfig(seconds=1.0))
    scene.step(views, 0, 0.0)
    scene.relocate()
    now = scene.gaussians()
    assert float(now.opacities.min()) > 0.004
    alive = start.means[100:]
    assert float(torch.cdist(now.means[:100], alive).amin(1).max()) < 0.05


def test_it_learns_from_random_points(views: Views) -> None:
    start = random_points(views, 3000, seed=1)
    torch.manual_seed(0)
    found = optimise(start, views, ScratchConfig(seconds=6.0, relocate_every=20))
    assert found.steps > 50 and len(found.gaussians) == 3000
    first, last = (sum(part) / 3 for part in (found.losses[:3], found.losses[-3:]))
    assert last < 0.5 * first
    assert bool(torch.isfinite(found.gaussians.means).all())


def test_comparison_of_one_case(tmp_path: Path) -> None:
    case = Case(ROOT / "assets" / "sample", "2v")
    from recon.config import OptimiseConfig, ReconstructConfig, ViewConfig

    settings = ReconstructConfig(
        ViewConfig(resolution=64), model="plane-sweep", optimise=OptimiseConfig(2)
    )
    row = compare_case(case, settings, CompareConfig(times=(0.5, 1.0), random_count=500))
    assert [each["times"] for each in row["scratch"]] == [0.5, 1.0, 0.5, 1.0]
    assert row["ours"] > max(e["psnr"] for e in row["scratch"] if e["start"] == "random points")
    assert "sweep points, 0.5x" in as_lines([row]) and json.dumps(row)


def test_surface_points_keep_places_and_colours_only(views: Views) -> None:
    made = one_gaussian(0.3, 5.0)
    found = surface_points(made, views)
    assert torch.equal(found.means, made.means) and torch.equal(found.sh, made.sh)
    assert float(found.scales.max()) < 0.5 and float(found.opacities[0]) == 0.5
