"""The 3DGS-MCMC baseline is a fair one: it learns, and its relocations preserve renders."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image

from recon.capture import load_capture, load_views
from recon.config import OptimiseConfig, ReconstructConfig, ViewConfig
from recon.types import Views
from render import Gaussians, rasterize
from render.sh import C0
from training.baselines import McmcConfig, optimise_mcmc, random_points, sfm_points, surface_points
from training.baselines.compare import (
    PREDICTED,
    RANDOM,
    CompareConfig,
    as_lines,
    compare_budgets,
    compare_case,
    save_plot,
)
from training.baselines.gsplat_mcmc import McmcScene, position_noise, relocated, sample_indices
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
def test_copies_together_look_like_the_original(count: int, views: Views) -> None:
    """Equation 9 preserves the integral along a central line: renders are close, not equal."""
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


def test_noise_moves_only_faint_gaussians_along_their_shape() -> None:
    torch.manual_seed(0)
    covars = torch.diag(torch.tensor([1.0, 1e-6, 1e-6])).repeat(1000, 1, 1)
    faint = position_noise(covars, torch.full((1000,), 0.001), 1.0)
    assert float(faint[:, 0].std()) > 0.5 and float(faint[:, 1:].abs().max()) < 1e-4
    assert float(position_noise(covars, torch.full((1000,), 0.5), 1.0).abs().max()) < 1e-6


def test_samples_follow_the_weights() -> None:
    torch.manual_seed(0)
    found = torch.bincount(sample_indices(torch.tensor([1.0, 0.0, 3.0]), 4000), minlength=3)
    assert found[1] == 0 and 0.7 < float(found[2]) / 4000 < 0.8


def test_dead_gaussians_are_relocated_to_live_ones(views: Views) -> None:
    start = random_points(views, 500, seed=0)
    start.opacities[:100] = 0.001
    scene = McmcScene(start, 1.0, McmcConfig(seconds=1.0))
    scene.step(views, 0, 0.0)
    scene.relocate()
    found = scene.gaussians().detach()
    assert float(found.opacities.min()) > 0.004
    alive = start.means[100:]
    assert float(torch.cdist(found.means[:100], alive).amin(1).max()) < 0.05


def test_it_learns_from_random_points(views: Views) -> None:
    """A fixed number of steps: a busy machine must not change the result."""
    start = random_points(views, 3000, seed=1)
    config = McmcConfig(seconds=math.inf, max_steps=60, relocate_every=20)
    found = optimise_mcmc(start, views, config)
    assert found.steps == len(found.losses) == 60 and len(found.gaussians) == 3000
    first, last = (sum(part) / 3 for part in (found.losses[:3], found.losses[-3:]))
    assert last < 0.6 * first
    assert bool(torch.isfinite(found.gaussians.means).all())


def test_colours_get_further_degrees(views: Views) -> None:
    start = random_points(views, 500, seed=1)
    config = McmcConfig(seconds=math.inf, max_steps=10, relocate_every=4, sh_every=2)
    found = optimise_mcmc(start, views, config).gaussians
    assert found.sh_degree == 3
    # Every degree has learned something, and the last one least.
    sizes = [float(found.sh[:, n * n : (n + 1) ** 2].abs().sum()) for n in range(4)]
    assert min(sizes) > 0 and sizes[0] > sizes[3]


@pytest.mark.parametrize("degree", [1, 2])
def test_a_start_may_have_colours_that_depend_on_the_direction(views: Views, degree: int) -> None:
    start = random_points(views, 500, seed=1).extend_sh(degree)
    start.sh[:, 1:] = 0.1
    config = McmcConfig(seconds=math.inf, max_steps=6, relocate_every=3, sh_every=2)
    assert torch.equal(McmcScene(start, 1.0, config).gaussians().sh, start.sh)
    found = optimise_mcmc(start, views, config).gaussians
    assert found.sh_degree == 3 and not torch.equal(found.sh[:, 1], start.sh[:, 1])


def test_few_gaussians_become_many(views: Views) -> None:
    """Growth is exponential until `grown_at`, whatever the colours have learned by then."""
    start = random_points(views, 500, seed=1)
    config = McmcConfig(
        seconds=math.inf, max_steps=12, relocate_every=3, sh_every=2, max_gaussians=2000
    )
    scene, counts = McmcScene(start, 1.0, config), []
    for step in range(12):
        scene.step(views, step % 3, step / 12)
        scene.grow(500, step / 12)
        counts.append(len(scene.gaussians()))
    assert counts[5] == pytest.approx(1000, rel=0.01)
    assert counts[0] == 500 and counts[-1] == 2000 and counts == sorted(counts)
    assert len(optimise_mcmc(start, views, config).gaussians) > 1000
    before, after = (rasterize(each, views.cameras).rgb for each in (start, scene.gaussians()))
    assert float((before - after).detach().abs().mean()) < 0.1


def test_points_of_colmap_have_the_colours_of_the_photos() -> None:
    views = load_views(load_capture(ROOT / "assets" / "sample").frames, 256)
    points = sfm_points(views)
    assert len(points) > 50 and float(points.opacities.max()) == 0.5
    assert color_difference(points, views) < 0.08
    moved = replace(points, means=points.means[torch.randperm(len(points))])
    assert color_difference(moved, views) > 0.12


def color_difference(points: Gaussians, views: Views) -> float:
    """Return the median difference between points and the pixels that they project to."""
    cameras, differences = views.cameras, []
    for v in range(len(views)):
        local = points.means @ cameras.viewmats[v, :3, :3].T + cameras.viewmats[v, :3, 3]
        image = local @ cameras.Ks[v].T
        x, y = (image[:, :2] / image[:, 2:]).floor().long().unbind(1)
        inside = (local[:, 2] > 0) & (x >= 0) & (x < 256) & (y >= 0) & (y < cameras.height)
        pixels = views.images[v][:, y[inside], x[inside]].T
        difference = pixels - 0.5 - C0 * points.sh[inside, 0]
        differences.append(difference.abs().mean(1))
    return float(torch.cat(differences).median())


def test_time_limit_ends_the_optimisation(views: Views) -> None:
    start = random_points(views, 500, seed=1)
    found = optimise_mcmc(start, views, McmcConfig(seconds=0.0, max_steps=60))
    assert found.steps == 1


def test_comparison_of_one_case() -> None:
    case = Case(ROOT / "assets" / "sample", "2v")
    recon_config = ReconstructConfig(
        ViewConfig(resolution=64), model="plane-sweep", optimise=OptimiseConfig(steps=2)
    )
    row = compare_case(case, recon_config, CompareConfig(times=(0.5, 1.0), random_count=500))
    assert [each["times"] for each in row["baseline"]] == [0.5, 1.0, 0.5, 1.0]
    assert row["recon"] > max(e["psnr"] for e in row["baseline"] if e["start"] == RANDOM)
    assert "predicted points, 0.5x" in as_lines([row]) and json.dumps(row)


def test_comparison_at_equal_times(tmp_path: Path) -> None:
    case = Case(ROOT / "assets" / "sample", "2v")
    recon_config = ReconstructConfig(ViewConfig(resolution=64), model="plane-sweep")
    config = CompareConfig(starts=(PREDICTED,), budgets=(0.1, 5.0))
    row = compare_budgets(case, recon_config, config)
    assert [each["budget"] for each in row["budgets"]] == [0.1, 5.0]
    short, long = row["budgets"]
    assert long["recon_steps"] > short["recon_steps"]
    assert long["baseline"][0]["steps"] > short["baseline"][0]["steps"] > 0
    assert "| sample | 2v | 0.1 |" in as_lines([row]) and json.dumps(row)
    save_plot([row, row], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.width > 300 and len(plot.convert("RGB").getcolors(1 << 20) or ()) > 20


def test_surface_points_keep_only_positions_and_colours(views: Views) -> None:
    made = one_gaussian(0.3, 5.0)
    found = surface_points(made, views)
    assert torch.equal(found.means, made.means) and torch.equal(found.sh, made.sh)
    assert float(found.scales.max()) < 0.5 and float(found.opacities[0]) == 0.5
