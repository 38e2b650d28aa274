"""Fewer spherical harmonics: colours stay where the scene is looked at from."""

import pytest
import torch
from helpers import random_gaussians, sample_views, swept

from recon.compress import Looks, sphere
from recon.compress.harmonics import lower_sh
from render import Gaussians
from render.sh import sh_to_colors


@pytest.fixture()
def shiny(sample) -> tuple[Gaussians, Looks]:
    """A scene of degree 3 and where it is looked at from."""
    views = sample_views(sample, 96)
    scene = swept(views[:2])
    generator = torch.Generator().manual_seed(0)
    rest = 0.15 * torch.randn(len(scene), 15, 3, generator=generator)
    scene = Gaussians(
        scene.means, scene.quats, scene.scales, scene.opacities, torch.cat([scene.sh, rest], 1)
    )
    return scene, Looks.of(scene, views.cameras[[0, 1, 2]])


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_better_than_cutting(shiny: tuple[Gaussians, Looks], degree: int) -> None:
    scene, looks = shiny
    lower = lower_sh(scene, degree, looks.lessons.cameras)
    lower.validate()
    assert lower.sh_degree == degree
    assert torch.equal(lower.means, scene.means)
    assert looks.loss_db(lower) < 0.25 * looks.loss_db(scene.cut_sh(degree))


def test_views_from_everywhere_change_little() -> None:
    scene = random_gaussians(50, torch.Generator().manual_seed(0), degree=2, dtype=torch.float32)
    looks = Looks.of(scene, sphere(scene))
    lower = lower_sh(scene, 1, looks.lessons.cameras)
    change = (lower.sh - scene.sh[:, :4]).norm() / scene.sh[:, 4:].norm()
    assert change < 1.0
    assert looks.loss_db(lower) <= looks.loss_db(scene.cut_sh(1))


def test_enough_degrees_stay_as_they_are(shiny: tuple[Gaussians, Looks]) -> None:
    scene, looks = shiny
    for degree in (3, 4):
        assert lower_sh(scene, degree, looks.lessons.cameras) is scene


def test_unseen_gaussians_keep_their_mean(shiny: tuple[Gaussians, Looks]) -> None:
    scene, looks = shiny
    camera = looks.lessons.cameras[[0]]
    behind = camera.centers[0] - 3 * camera.viewmats[0, 2, :3]
    away = Gaussians(
        behind.expand(len(scene), 3), scene.quats, scene.scales, scene.opacities, scene.sh
    )
    lower = lower_sh(away, 1, camera)
    assert torch.equal(lower.sh, scene.sh[:, :4])


def test_one_view_is_met(shiny: tuple[Gaussians, Looks]) -> None:
    scene, looks = shiny
    camera = looks.lessons.cameras[[1]]
    lower = lower_sh(scene, 0, camera)
    dirs = torch.nn.functional.normalize(scene.means - camera.centers[0], dim=-1)
    wanted, found = (sh_to_colors(each.sh, dirs) for each in (scene, lower))
    before = (sh_to_colors(scene.cut_sh(0).sh, dirs) - wanted).abs().mean()
    assert (found - wanted).abs().mean() < 0.2 * before
