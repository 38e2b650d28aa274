"""A person in front of a patterned wall, whom one photo of six shows, is found and removed."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recon.config import OptimiseConfig, ReconstructConfig
from recon.errors import ConfigError
from recon.fusion.transients import find_transients, without_transients
from recon.optimisation.robust_weights import RobustWeights
from recon.pipeline import finish_scene
from recon.types import Prediction, Views
from render import Cameras, Gaussians, rasterize
from render.sh import colors_to_sh
from training.evaluation.passers_by import figure

WIDTH, HEIGHT, DEPTH = 96, 72, 3.0


def wall() -> Gaussians:
    """Return a wall with a smooth pattern."""
    xy = torch.cartesian_prod(torch.arange(-2.5, 4.0, 0.06), torch.arange(-1.6, 1.6, 0.06))
    wave = [torch.sin(2.0 * xy[:, 0] + phase) * torch.cos(1.5 * xy[:, 1]) for phase in (0, 1, 2)]
    count = len(xy)
    return Gaussians(
        torch.cat([xy, torch.full((count, 1), DEPTH)], 1),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.full((count, 3), 0.04),
        torch.full((count,), 0.95),
        colors_to_sh(0.5 + 0.2 * torch.stack(wave, 1)),
    )


def photos(passed: tuple[int, ...]) -> tuple[Views, Tensor]:
    """Return six photos of the wall, a person in some of them, and the person's pixels."""
    viewmats = torch.eye(4).repeat(6, 1, 1)
    viewmats[:, 0, 3] = -0.25 * torch.arange(6)
    Ks = torch.tensor([[80.0, 0, WIDTH / 2], [0, 80, HEIGHT / 2], [0, 0, 1]]).repeat(6, 1, 1)
    cameras = Cameras(viewmats, Ks, WIDTH, HEIGHT)
    images = rasterize(wall(), cameras).rgb
    person = torch.zeros(6, HEIGHT, WIDTH)
    for view in passed:
        rgba = torch.from_numpy(figure(36, seed=view)).permute(2, 0, 1) / 255
        left, top = 15 + 8 * view, 20
        area = (..., slice(top, top + 36), slice(left, left + rgba.shape[2]))
        images[view][area] = rgba[:3] * rgba[3] + images[view][area] * (1 - rgba[3])
        person[view][area] = rgba[3]
    ones = torch.ones(6, 1, HEIGHT, WIDTH)
    return Views(images, ones, ones, cameras, tuple("abcdef")), person


def predicted(views: Views, in_front: Tensor | float = 0.0) -> Prediction:
    """Return a Gaussian for every pixel of every view, at the depth of the wall or in front."""
    depth = DEPTH * (1 - in_front * torch.ones(6, HEIGHT, WIDTH))
    origins, dirs = views.cameras.rays()
    means = (origins + depth[..., None] * dirs).flatten(0, 2)
    count = len(means)
    colors = views.images.permute(0, 2, 3, 1).flatten(0, 2)
    gaussians = Gaussians(
        means, torch.tensor([1.0, 0, 0, 0]).repeat(count, 1), torch.full((count, 3), 0.02),
        torch.full((count,), 0.7), colors_to_sh(colors),
    )  # fmt: skip
    source = torch.arange(6).repeat_interleave(HEIGHT * WIDTH)
    return Prediction(gaussians, source, depth, torch.ones_like(depth))


def test_a_person_in_two_of_six_photos_is_found() -> None:
    views, person = photos((1, 4))
    prediction = predicted(views)
    found = find_transients(prediction.gaussians, views)
    assert found.shape == person.shape
    assert float(found[person > 0.5].float().mean()) > 0.9
    assert float(found[person == 0].float().mean()) < 0.03
    assert not found[[0, 2, 3, 5]].any()


def test_their_gaussians_go_and_no_others() -> None:
    views, person = photos((1, 4))
    prediction = predicted(views)
    found = find_transients(prediction.gaussians, views)
    kept = without_transients(prediction, views.cameras, found)
    removed = len(prediction.gaussians) - len(kept.gaussians)
    assert removed == int(found.sum())
    assert set(kept.source_view.tolist()) == set(range(6))
    image = rasterize(kept.gaussians, views.cameras[[1]]).rgb[0]
    clean = photos(())[0].images[1]
    inside = person[1] > 0.5
    assert float((image - clean)[:, inside].abs().mean()) < 0.03


def test_photos_without_anyone_have_no_transients() -> None:
    views, _ = photos(())
    assert not find_transients(predicted(views).gaussians, views).any()


def test_masked_pixels_are_no_transients() -> None:
    views, person = photos((1,))
    views = replace(views, masks=views.masks * (person[:, None] == 0))
    assert not find_transients(predicted(photos(())[0]).gaussians, views).any()


def test_three_photos_are_too_few() -> None:
    views, _ = photos((1,))
    with pytest.raises(ConfigError, match="at least 4 photos, found 3"):
        find_transients(predicted(views).gaussians, views[:3])


@pytest.mark.parametrize("is_robust", [False, True])
def test_the_scene_does_not_show_the_person(is_robust: bool) -> None:
    views, person = photos((1, 4))
    config = ReconstructConfig(optimise=OptimiseConfig(steps=12), transients=is_robust)
    # By less than what contradicts the other views.
    scene = finish_scene(predicted(views, 0.04 * person), views, config)
    shown = rasterize(scene.gaussians, views.cameras[[1]]).rgb[0]
    error = (shown - photos(())[0].images[1])[:, person[1] > 0.5].abs().mean()
    assert (float(error) < 0.01) == is_robust


def test_suspect_pixels_get_their_weight_back_where_the_scene_explains_them() -> None:
    suspect = torch.zeros(2, 18, 24, dtype=torch.bool)
    suspect[1, 3:12, 3:12] = True
    weights = RobustWeights(suspect)
    residual, valid = torch.full((3, HEIGHT, WIDTH), 0.01), torch.ones(1, HEIGHT, WIDTH)
    residual[:, 20:40, 20:40] = 0.4
    weights.update(1, residual, valid)
    assert float((1 - weights.of(1, HEIGHT, WIDTH)).sum()) == 36 * 36  # it does not learn yet
    weights.is_learning = True
    weights.update(1, residual, valid)
    shown = weights.of(1, HEIGHT, WIDTH)[0]
    assert (shown[22:38, 22:38] == 0).all() and (shown[12:15] == 1).all()
    assert (weights.of(0, HEIGHT, WIDTH) == 1).all()
    weights.update(1, torch.full_like(residual, 0.01), valid)
    assert (weights.of(1, HEIGHT, WIDTH) == 1).all()
    weights.update(1, residual, valid)
    assert (weights.of(1, HEIGHT, WIDTH)[0][22:38, 22:38] == 0).all()


def test_only_suspect_pixels_lose_their_weight() -> None:
    """Where the scene is wrong, its photos have to correct it."""
    weights = RobustWeights(torch.zeros(1, 18, 24, dtype=torch.bool))
    weights.is_learning = True
    residual = torch.zeros(3, HEIGHT, WIDTH)
    residual[:, 20:40, 20:40] = 0.4
    weights.update(0, residual, torch.ones(1, HEIGHT, WIDTH))
    assert (weights.of(0, HEIGHT, WIDTH) == 1).all()


def test_detail_that_is_not_sharp_yet_has_its_weight() -> None:
    """A checkerboard that is rendered grey differs everywhere, but not on average."""
    weights = RobustWeights(torch.ones(1, 18, 24, dtype=torch.bool))
    weights.is_learning = True
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    checks = 0.5 * ((rows + columns) % 2 * 2.0 - 1)
    residual = torch.zeros(3, HEIGHT, WIDTH)
    residual[:, 20:40, 20:40] = checks[20:40, 20:40]
    weights.update(0, residual, torch.ones(1, HEIGHT, WIDTH))
    assert (weights.of(0, HEIGHT, WIDTH) == 1).all()
