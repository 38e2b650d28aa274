"""Reduction of the SH degree: colours seen from the cameras are kept."""

import pytest
import torch
from helpers import random_gaussians, sample_views, swept

from recon.compression import RateDistortionObjective, sphere_cameras
from recon.compression.reduction import reduce_sh
from render import Gaussians
from render.sh import sh_to_colors


@pytest.fixture()
def shiny(sample) -> tuple[Gaussians, RateDistortionObjective]:
    """Return a scene of degree 3 and the objective of its cameras."""
    views = sample_views(sample, 96)
    scene = swept(views[:2])
    generator = torch.Generator().manual_seed(0)
    rest = 0.15 * torch.randn(len(scene), 15, 3, generator=generator)
    scene = Gaussians(
        scene.means, scene.quats, scene.scales, scene.opacities, torch.cat([scene.sh, rest], 1)
    )
    return scene, RateDistortionObjective.of(scene, views.cameras[[0, 1, 2]])


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_loss_is_less_than_by_truncation(
    shiny: tuple[Gaussians, RateDistortionObjective], degree: int
) -> None:
    scene, objective = shiny
    lower = reduce_sh(scene, degree, objective.train_views.cameras)
    lower.validate()
    assert lower.sh_degree == degree
    assert torch.equal(lower.means, scene.means)
    assert objective.loss_db(lower) < 0.25 * objective.loss_db(scene.cut_sh(degree))


def test_views_from_all_directions_change_little() -> None:
    scene = random_gaussians(50, torch.Generator().manual_seed(0), degree=2, dtype=torch.float32)
    objective = RateDistortionObjective.of(scene, sphere_cameras(scene))
    lower = reduce_sh(scene, 1, objective.train_views.cameras)
    change = (lower.sh - scene.sh[:, :4]).norm() / scene.sh[:, 4:].norm()
    assert change < 1.0
    assert objective.loss_db(lower) <= objective.loss_db(scene.cut_sh(1))


def test_lower_degrees_are_unchanged(shiny: tuple[Gaussians, RateDistortionObjective]) -> None:
    scene, objective = shiny
    for degree in (3, 4):
        assert reduce_sh(scene, degree, objective.train_views.cameras) is scene


def test_unseen_gaussians_are_truncated(shiny: tuple[Gaussians, RateDistortionObjective]) -> None:
    scene, objective = shiny
    camera = objective.train_views.cameras[[0]]
    behind = camera.centers[0] - 3 * camera.viewmats[0, 2, :3]
    away = Gaussians(
        behind.expand(len(scene), 3), scene.quats, scene.scales, scene.opacities, scene.sh
    )
    lower = reduce_sh(away, 1, camera)
    assert torch.equal(lower.sh, scene.sh[:, :4])


def test_colors_of_a_single_view_are_kept(shiny: tuple[Gaussians, RateDistortionObjective]) -> None:
    scene, objective = shiny
    camera = objective.train_views.cameras[[1]]
    lower = reduce_sh(scene, 0, camera)
    dirs = torch.nn.functional.normalize(scene.means - camera.centers[0], dim=-1)
    wanted, found = (sh_to_colors(each.sh, dirs) for each in (scene, lower))
    before = (sh_to_colors(scene.cut_sh(0).sh, dirs) - wanted).abs().mean()
    assert (found - wanted).abs().mean() < 0.2 * before
