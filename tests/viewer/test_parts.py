"""What the browser is sent: sizes, colours, choices, edits."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from browsing import photos  # noqa: F401
from helpers import look_at_cameras, random_gaussians

from render import Cameras, Gaussians
from render.projection import project_covars, projection_jacobian
from viewer import Photos
from viewer.coloring import COLORINGS, colors_of
from viewer.look import Look, arrays_of, passing, visible_part
from viewer.scene import ShownScene
from viewer.space import SHOWN_RADIUS, Space, Start
from viewer.survive import LEAST, surviving


@pytest.fixture()
def cloud(generator: torch.Generator) -> Gaussians:
    return random_gaussians(400, generator, degree=1, dtype=torch.float32)


@pytest.fixture()
def eye() -> Cameras:
    return look_at_cameras(1, 480, 400, torch.float32)


def dets(covars: torch.Tensor, gaussians: Gaussians, eye: Cameras) -> torch.Tensor:
    """Of picture covariances with viser's blur (px^4)."""
    viewmat = eye.viewmats[0]
    local = gaussians.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    jacobian = projection_jacobian(local, eye.Ks[0], eye.width, eye.height)
    return torch.linalg.det(project_covars(covars, jacobian, viewmat[:3, :3]) + 0.3 * torch.eye(2))


def test_small_ones_survive_with_the_same_mass(cloud: Gaussians, eye: Cameras) -> None:
    small = Gaussians(cloud.means, cloud.quats, 1e-3 * cloud.scales, cloud.opacities, cloud.sh)
    before, (covars, opacities) = dets(small.covars(), small, eye), surviving(small, eye)
    after = dets(covars, small, eye)
    assert (small.opacities * before < 0.25).any()
    assert (opacities * after > 0.25).all()
    assert torch.allclose(opacities * after.sqrt(), small.opacities * before.sqrt(), rtol=1e-3)


def test_large_ones_stay_as_they_are(cloud: Gaussians, eye: Cameras) -> None:
    covars, opacities = surviving(cloud, eye)
    large = cloud.opacities * dets(cloud.covars(), cloud, eye) > LEAST
    assert large.float().mean() > 0.9
    assert torch.equal(covars[large], cloud.covars()[large])
    assert torch.equal(opacities[large], cloud.opacities[large])


def test_space_there_and_back(cloud: Gaussians) -> None:
    far = Gaussians(1000 * cloud.means + 5e4, cloud.quats, cloud.scales, cloud.opacities, cloud.sh)
    space = Space.of(far)
    shown = space.shown(far.means)
    assert np.percentile(np.linalg.norm(shown, axis=1), 90) == pytest.approx(SHOWN_RADIUS, 0.05)
    assert torch.allclose(space.world(shown), far.means, rtol=1e-4)
    assert Space.of(far[torch.zeros(0, dtype=torch.long)]).scale == 1


def test_eyes_see_what_cameras_see(cloud: Gaussians, eye: Cameras) -> None:
    from render.quaternions import rotmats_to_quats

    space = Space.of(cloud)
    quat = rotmats_to_quats(eye.c2w[:, :3, :3])[0].numpy()
    fov = 2 * math.atan(eye.height / 2 / float(eye.Ks[0, 1, 1]))
    found = space.eye(quat, space.shown(eye.centers[0]), fov, eye.width, eye.height)
    assert torch.allclose(found.viewmats, eye.viewmats, atol=1e-4)
    start = Start.of(cloud, eye, space)
    look = space.looking(start.position, start.look_at, start.up, start.fov, 400)
    ahead = torch.tensor(start.look_at - start.position)
    cosine = torch.nn.functional.cosine_similarity(look.viewmats[0, 2, :3], ahead, dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-4)
    assert float(look.viewmats[0, 1, :3] @ torch.tensor(start.up)) < 0


def test_colourings_differ(cloud: Gaussians, eye: Cameras) -> None:
    weight = cloud.opacities
    found = [colors_of(cloud, eye, coloring, True, weight) for coloring in COLORINGS]
    found.append(colors_of(cloud, eye, "colour", False, weight))
    for number, colors in enumerate(found):
        assert colors.shape == (400, 3) and colors.min() >= 0 and colors.max() <= 1
        assert all(not torch.allclose(colors, other, atol=0.05) for other in found[:number])


def test_depth_is_red_where_it_is_near(cloud: Gaussians, eye: Cameras) -> None:
    depth = cloud.means @ eye.viewmats[0, 2, :3] + eye.viewmats[0, 2, 3]
    colors = colors_of(cloud, eye, "depth", True, cloud.opacities)
    near, far = depth < depth.quantile(0.1), depth > depth.quantile(0.9)
    assert (colors[near, 0] > colors[near, 2]).all() and (colors[far, 0] < colors[far, 2]).all()


def test_the_most_important_ones_are_shown(cloud: Gaussians, eye: Cameras) -> None:
    scene, space = ShownScene("a", cloud), Space.of(cloud)
    index = scene.state.chosen(passing(cloud, Look(), space), 100)
    assert len(index) == 100 and (index.diff() > 0).all()
    rest = torch.ones(400, dtype=torch.bool)
    rest[index] = False
    assert scene.state.weight[index].min() >= scene.state.weight[rest].max()
    arrays = arrays_of(scene, Look(limit=100), eye, space)
    assert arrays.centers.shape == (100, 3) and arrays.opacities.shape == (100, 1)


def test_edits_and_thresholds(cloud: Gaussians) -> None:
    scene, space = ShownScene("a", cloud), Space.of(cloud)

    def half(gaussians: Gaussians) -> torch.Tensor:
        return torch.arange(400) < 200

    assert scene.hide(half) == 200 and scene.hide(half) == 0
    assert int(scene.state.kept.sum()) == 200
    assert scene.undo() and int(scene.state.kept.sum()) == 200
    assert scene.undo() and bool(scene.state.kept.all()) and not scene.undo()
    faint = int((cloud.opacities < 0.5).sum())
    assert len(visible_part(scene, Look(min_opacity=0.5), space)) == 400 - faint
    longest = cloud.scales.amax(-1) * space.scale
    middle = float(longest.median()) / SHOWN_RADIUS
    assert len(visible_part(scene, Look(max_size=middle), space)) == 200


def test_a_scene_may_change_while_it_is_looked_at(cloud: Gaussians, eye: Cameras) -> None:
    """As during refinement, which ends with fewer Gaussians."""
    scene, space, over = ShownScene("a", cloud), Space.of(cloud), threading.Event()
    states = [cloud[torch.arange(400) < count] for count in (100, 400, 250)]

    def optimise() -> None:
        while not over.is_set():
            for state in states:
                scene.replace(state)

    running = threading.Thread(target=optimise)
    running.start()
    try:
        for _ in range(300):
            arrays = arrays_of(scene, Look(min_opacity=0.3), eye, space)
            assert len(arrays.centers) == len(arrays.rgbs) > 0
            assert scene.hide(lambda gaussians: gaussians.opacities > 0.5) >= 0
            assert len(visible_part(scene, Look(), space)) > 0
    finally:
        over.set()
        running.join()


def test_contributions_are_measured_where_photos_are(cloud: Gaussians, eye: Cameras) -> None:
    behind = eye.centers[0] - 2 * eye.viewmats[0, 2, :3]
    hidden = torch.arange(400) < 40
    means = torch.where(hidden[:, None], behind + 0.01 * cloud.means, cloud.means)
    cloud = Gaussians(means, cloud.quats, cloud.scales, cloud.opacities, cloud.sh)
    scene = ShownScene("a", cloud, judges=eye)
    found = scene.contribution(cloud)
    assert (found[hidden] == 0).all() and found[~hidden].sum() > 0
    assert scene.contribution(cloud) is found
    scene.replace(replace(cloud, opacities=cloud.opacities / 2))
    assert not torch.equal(scene.contribution(scene.state.gaussians), found)
    around = ShownScene("a", cloud)
    assert (around.contribution(cloud)[hidden] > 0).any()


def test_judges_are_few_and_small(photos: Photos) -> None:
    judges = photos.judges()
    assert len(judges) == len(photos) and max(judges.width, judges.height) == 512
    whole = photos.cameras()
    assert torch.equal(judges.viewmats, whole.viewmats)
    ratio = judges.Ks[:, 0, 0] / judges.width
    assert torch.allclose(ratio, whole.Ks[:, 0, 0] / whole.width)
