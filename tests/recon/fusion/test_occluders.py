"""Masks of things in front of the scene, which leave nothing to be said about it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import psnr, sample_views, swept

from recon.config import ReconstructConfig
from recon.fusion.occluders import covered_fraction, without_occluders
from recon.model.registry import build_model
from recon.pipeline import finish_scene
from recon.types import PackedViews, Views
from render import rasterize


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    return sample_views(sample, 96)


def masked(views: Views, masks: torch.Tensor) -> Views:
    return replace(views, masks=masks, images=views.images * masks)


@pytest.fixture(scope="module")
def with_passer_by(views: Views) -> Views:
    """Return two views, of which something in front of the first is masked."""
    masks = views.masks[:2].clone()
    masks[0, :, 15:55, 30:60] = 0
    return masked(views[:2], masks)


@pytest.fixture(scope="module")
def of_an_object(views: Views) -> Views:
    """Return two views of which only the middle is left."""
    masks = torch.zeros_like(views.masks[:2])
    masks[:, :, 20:50, 30:66] = 1
    return masked(views[:2], masks)


def packed(views: Views) -> PackedViews:
    def bytes_of(values: torch.Tensor) -> torch.Tensor:
        return (255 * values).round().byte()

    return PackedViews(bytes_of(views.images), views.cameras, views.names, bytes_of(views.masks))


def test_masks_of_occluders_are_told_from_those_of_objects(
    views: Views, with_passer_by: Views, of_an_object: Views
) -> None:
    assert covered_fraction(with_passer_by, swept(with_passer_by)) > 0.75
    assert covered_fraction(of_an_object, swept(of_an_object)) < 0.4
    assert covered_fraction(views[:2], swept(views[:2])) == 0


def test_pixels_outside_of_the_photo_are_not_masked(sample: Path) -> None:
    """Resized, pixels at the border are neither wholly inside nor outside."""
    views = sample_views(sample, 200)[:2]
    inside = views.valid.clone()
    inside[:, :, :, :7], inside[:, :, :5] = 0, 0
    views = replace(views, masks=inside, valid=inside, images=views.images * inside)
    assert covered_fraction(views, swept(views)) == 0


def test_masked_pixels_of_occluders_become_invalid(
    views: Views, with_passer_by: Views, of_an_object: Views
) -> None:
    for given in (with_passer_by, packed(with_passer_by)):
        found = without_occluders(given, swept(with_passer_by))
        assert torch.equal(found[:].valid, with_passer_by.masks)
    for given in (of_an_object, packed(of_an_object), views[:2]):
        assert without_occluders(given, swept(of_an_object)) is given


def test_what_is_behind_a_passer_by_stays(
    views: Views, with_passer_by: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other photo shows it, and so does the held-out one."""
    prediction = build_model("plane-sweep")(with_passer_by, lambda done: None)

    def held_out() -> float:
        scene = finish_scene(prediction, with_passer_by, ReconstructConfig()).gaussians
        image = rasterize(scene, views.cameras[[2]]).rgb[0].clamp(0, 1)
        return psnr(image, views.images[2])

    found = held_out()
    monkeypatch.setattr("recon.pipeline.without_occluders", lambda views, scene: views)
    assert found > held_out() + 1
