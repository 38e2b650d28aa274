"""Agreement of the views' gradients."""

from dataclasses import fields, replace

import pytest
import torch
from helpers import sample_views, swept

from recon.optimisation.config import OptimiseConfig
from recon.optimisation.loop import optimise
from recon.types import Views
from render import Gaussians


@pytest.fixture(scope="module")
def views(sample) -> Views:
    return sample_views(sample, 64)


@pytest.fixture(scope="module")
def scene(views: Views) -> Gaussians:
    """Return a scene that is rounder and fainter than predicted, so every attribute improves."""
    found = swept(views[[0, 1]])
    return replace(found, opacities=0.8 * found.opacities, scales=1.2 * found.scales)


def without_pixels(views: Views, which: list[int]) -> Views:
    """Mark all pixels of some views as invalid."""
    valid = views.valid.clone()
    valid[which] = 0
    return replace(views, valid=valid)


def changed(before: Gaussians, views: Views) -> set[str]:
    """Return the attributes that the optimisation changes by more than rounding."""
    after = optimise(before, views, OptimiseConfig(steps=6)).gaussians
    pairs = {f.name: (getattr(before, f.name), getattr(after, f.name)) for f in fields(Gaussians)}
    return {name for name, (a, b) in pairs.items() if float((a - b).abs().max()) > 1e-3 * a.std()}


EVERYTHING = {field.name for field in fields(Gaussians)}


def test_one_of_two_views_changes_nothing(views: Views, scene: Gaussians) -> None:
    two = views[[0, 1]]
    assert changed(scene, two) == EVERYTHING
    assert changed(scene, without_pixels(two, [1])) == set()


def test_one_of_three_views_changes_everything(views: Views, scene: Gaussians) -> None:
    assert changed(scene, views) == EVERYTHING
    assert changed(scene, without_pixels(views, [0, 1])) == EVERYTHING


def test_views_without_pixels_change_nothing(views: Views, scene: Gaussians) -> None:
    hidden = without_pixels(views, [0, 1, 2])
    after = optimise(scene, hidden, OptimiseConfig(steps=2)).gaussians
    assert torch.isfinite(after.means).all() and changed(scene, hidden) == set()


def test_a_single_view_changes_everything(views: Views, scene: Gaussians) -> None:
    assert changed(scene, views[[0]]) == EVERYTHING
