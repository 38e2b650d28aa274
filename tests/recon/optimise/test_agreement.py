"""Who decides where a Gaussian goes."""

from dataclasses import fields, replace

import pytest
import torch
from helpers import sample_views, swept

from recon.optimise import OptimiseConfig, optimise
from recon.optimise.agreement import GradientAgreement
from recon.types import Views
from render import Gaussians


@pytest.fixture(scope="module")
def views(sample) -> Views:
    return sample_views(sample, 64)


@pytest.fixture(scope="module")
def scene(views: Views) -> Gaussians:
    """Rounder and fainter than predicted: every attribute has something to gain."""
    found = swept(views[[0, 1]])
    return replace(found, opacities=0.8 * found.opacities, scales=1.2 * found.scales)


def blind(views: Views, which: list[int]) -> Views:
    """As if these photos had nothing to say."""
    valid = views.valid.clone()
    valid[which] = 0
    return replace(views, valid=valid)


def changed(before: Gaussians, views: Views) -> set[str]:
    """Attributes that refinement changes by more than rounding."""
    after = optimise(before, views, OptimiseConfig(steps=3)).gaussians
    pairs = {f.name: (getattr(before, f.name), getattr(after, f.name)) for f in fields(Gaussians)}
    return {name for name, (a, b) in pairs.items() if float((a - b).abs().max()) > 1e-3 * a.std()}


EVERYTHING = {field.name for field in fields(Gaussians)}


def test_of_two_photos_one_alone_changes_nothing(views: Views, scene: Gaussians) -> None:
    two = views[[0, 1]]
    assert changed(scene, two) == EVERYTHING
    assert changed(scene, blind(two, [1])) == set()


def test_of_three_photos_one_alone_changes_all_but_opacity(views: Views, scene: Gaussians) -> None:
    assert changed(scene, views) == EVERYTHING
    assert changed(scene, blind(views, [0, 1])) == EVERYTHING - {"opacities"}


def test_one_photo_is_the_only_witness(views: Views, scene: Gaussians) -> None:
    assert changed(scene, views[[0]]) == EVERYTHING


@pytest.mark.parametrize("votes, moves", [((1, 1), 2), ((-1, -3), -4), ((1, -3), 0), ((5, 0), 0)])
def test_two_photos_must_agree(votes: tuple[int, int], moves: int, scene: Gaussians) -> None:
    parameters = {f.name: getattr(scene, f.name).clone().requires_grad_() for f in fields(scene)}
    agreement = GradientAgreement(Gaussians(**parameters), 2)
    for vote in votes:
        agreement.add(vote * agreement.scene.opacities.sum())
    agreement.apply()
    gradient = parameters["opacities"].grad
    assert gradient is not None and torch.equal(gradient, torch.full_like(gradient, moves))
