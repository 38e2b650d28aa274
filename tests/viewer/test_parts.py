"""What is sent to the browser: sizes, colours, selection, edits."""

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
from viewer.coloring import COLORINGS, gaussian_colors
from viewer.display_settings import (
    DisplaySettings,
    splat_arrays,
    visible_gaussians,
    visible_mask,
)
from viewer.min_size_filter import MIN_OPACITY_DET, filter_small
from viewer.normalisation import BROWSER_RADIUS, SceneNormalisation
from viewer.scene import ViewerScene
from viewer.start_view import StartView


@pytest.fixture()
def cloud(generator: torch.Generator) -> Gaussians:
    return random_gaussians(400, generator, degree=1, dtype=torch.float32)


@pytest.fixture()
def camera() -> Cameras:
    return look_at_cameras(1, 480, 400, torch.float32)


def dets(covars: torch.Tensor, gaussians: Gaussians, camera: Cameras) -> torch.Tensor:
    """Return determinants of projected covariances with viser's blur (px^4)."""
    viewmat = camera.viewmats[0]
    local = gaussians.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    jacobian = projection_jacobian(local, camera.Ks[0], camera.width, camera.height)
    return torch.linalg.det(project_covars(covars, jacobian, viewmat[:3, :3]) + 0.3 * torch.eye(2))


def test_small_gaussians_keep_opacity_times_area(cloud: Gaussians, camera: Cameras) -> None:
    small = Gaussians(cloud.means, cloud.quats, 1e-3 * cloud.scales, cloud.opacities, cloud.sh)
    before, (covars, opacities) = dets(small.covars(), small, camera), filter_small(small, camera)
    after = dets(covars, small, camera)
    assert (small.opacities * before < 0.25).any()
    assert (opacities * after > 0.25).all()
    assert torch.allclose(opacities * after.sqrt(), small.opacities * before.sqrt(), rtol=1e-3)


def test_large_gaussians_are_unchanged(cloud: Gaussians, camera: Cameras) -> None:
    covars, opacities = filter_small(cloud, camera)
    large = cloud.opacities * dets(cloud.covars(), cloud, camera) > MIN_OPACITY_DET
    assert large.float().mean() > 0.9
    assert torch.equal(covars[large], cloud.covars()[large])
    assert torch.equal(opacities[large], cloud.opacities[large])


def test_normalisation_round_trip(cloud: Gaussians) -> None:
    far = Gaussians(1000 * cloud.means + 5e4, cloud.quats, cloud.scales, cloud.opacities, cloud.sh)
    normalisation = SceneNormalisation.of(far)
    shown = normalisation.to_browser(far.means)
    assert np.percentile(np.linalg.norm(shown, axis=1), 90) == pytest.approx(BROWSER_RADIUS, 0.05)
    assert torch.allclose(normalisation.to_world(shown), far.means, rtol=1e-4)
    assert SceneNormalisation.of(far[torch.zeros(0, dtype=torch.long)]).scale == 1


def test_browser_cameras_match_cameras(cloud: Gaussians, camera: Cameras) -> None:
    from render.quaternions import rotmats_to_quats

    normalisation = SceneNormalisation.of(cloud)
    quat = rotmats_to_quats(camera.c2w[:, :3, :3])[0].numpy()
    fov = 2 * math.atan(camera.height / 2 / float(camera.Ks[0, 1, 1]))
    found = normalisation.camera(
        quat, normalisation.to_browser(camera.centers[0]), fov, camera.width, camera.height
    )
    assert torch.allclose(found.viewmats, camera.viewmats, atol=1e-4)
    start = StartView.of(cloud, camera, normalisation)
    found = normalisation.look_at_camera(start.position, start.look_at, start.up, start.fov, 400)
    ahead = torch.tensor(start.look_at - start.position)
    cosine = torch.nn.functional.cosine_similarity(found.viewmats[0, 2, :3], ahead, dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-4)
    assert float(found.viewmats[0, 1, :3] @ torch.tensor(start.up)) < 0


def test_colourings_differ(cloud: Gaussians, camera: Cameras) -> None:
    weight = cloud.opacities
    found = [gaussian_colors(cloud, camera, coloring, True, weight) for coloring in COLORINGS]
    found.append(gaussian_colors(cloud, camera, "colour", False, weight))
    for number, colors in enumerate(found):
        assert colors.shape == (400, 3) and colors.min() >= 0 and colors.max() <= 1
        assert all(not torch.allclose(colors, other, atol=0.05) for other in found[:number])


def test_near_depths_are_red(cloud: Gaussians, camera: Cameras) -> None:
    depth = cloud.means @ camera.viewmats[0, 2, :3] + camera.viewmats[0, 2, 3]
    colors = gaussian_colors(cloud, camera, "depth", True, cloud.opacities)
    near, far = depth < depth.quantile(0.1), depth > depth.quantile(0.9)
    assert (colors[near, 0] > colors[near, 2]).all() and (colors[far, 0] < colors[far, 2]).all()


def test_the_most_important_gaussians_are_sent(cloud: Gaussians, camera: Cameras) -> None:
    scene, normalisation = ViewerScene("a", cloud), SceneNormalisation.of(cloud)
    index = scene.state.select_indices(visible_mask(cloud, DisplaySettings(), normalisation), 100)
    assert len(index) == 100 and (index.diff() > 0).all()
    rest = torch.ones(400, dtype=torch.bool)
    rest[index] = False
    assert scene.state.weight[index].min() >= scene.state.weight[rest].max()
    arrays = splat_arrays(scene, DisplaySettings(max_splats=100), camera, normalisation)
    assert arrays.centers.shape == (100, 3) and arrays.opacities.shape == (100, 1)


def test_edits_and_thresholds(cloud: Gaussians) -> None:
    scene, normalisation = ViewerScene("a", cloud), SceneNormalisation.of(cloud)

    def half(gaussians: Gaussians) -> torch.Tensor:
        return torch.arange(400) < 200

    def no_mask(gaussians: Gaussians) -> torch.Tensor:
        raise ValueError("no mask")

    assert scene.hide(half) == 200 and scene.hide(half) == 0
    assert int(scene.state.kept.sum()) == 200
    # The second hid nothing, so that it is no edit.
    assert scene.undo() and bool(scene.state.kept.all()) and not scene.undo()
    with pytest.raises(ValueError, match="no mask"):
        scene.hide(no_mask)
    assert not scene.undo()
    faint = int((cloud.opacities < 0.5).sum())
    assert (
        len(visible_gaussians(scene, DisplaySettings(min_opacity=0.5), normalisation))
        == 400 - faint
    )
    longest = cloud.scales.amax(-1) * normalisation.scale
    middle = float(longest.median()) / BROWSER_RADIUS
    assert len(visible_gaussians(scene, DisplaySettings(max_size=middle), normalisation)) == 200


def test_scene_may_change_while_it_is_sent(cloud: Gaussians, camera: Cameras) -> None:
    """Replace scenes of different sizes as an optimisation does."""
    scene, normalisation, over = (
        ViewerScene("a", cloud),
        SceneNormalisation.of(cloud),
        threading.Event(),
    )
    states = [cloud[torch.arange(400) < count] for count in (100, 400, 250)]

    def optimise() -> None:
        while not over.is_set():
            for state in states:
                scene.replace(state)

    running = threading.Thread(target=optimise)
    running.start()
    try:
        for _ in range(300):
            arrays = splat_arrays(scene, DisplaySettings(min_opacity=0.3), camera, normalisation)
            assert len(arrays.centers) == len(arrays.rgbs) > 0
            assert scene.hide(lambda gaussians: gaussians.opacities > 0.5) >= 0
            assert len(visible_gaussians(scene, DisplaySettings(), normalisation)) > 0
    finally:
        over.set()
        running.join()


def test_contributions_are_measured_at_the_photos_cameras(
    cloud: Gaussians, camera: Cameras
) -> None:
    behind = camera.centers[0] - 2 * camera.viewmats[0, 2, :3]
    hidden = torch.arange(400) < 40
    means = torch.where(hidden[:, None], behind + 0.01 * cloud.means, cloud.means)
    cloud = Gaussians(means, cloud.quats, cloud.scales, cloud.opacities, cloud.sh)
    scene = ViewerScene("a", cloud, contribution_cameras=camera)
    found = scene.contribution(cloud)
    assert (found[hidden] == 0).all() and found[~hidden].sum() > 0
    assert scene.contribution(cloud) is found
    scene.replace(replace(cloud, opacities=cloud.opacities / 2))
    assert not torch.equal(scene.contribution(scene.state.gaussians), found)
    around = ViewerScene("a", cloud)
    assert (around.contribution(cloud)[hidden] > 0).any()


def test_contribution_cameras_are_few_and_small(photos: Photos) -> None:
    cameras = photos.contribution_cameras()
    assert len(cameras) == len(photos) and max(cameras.width, cameras.height) == 512
    whole = photos.cameras()
    assert torch.equal(cameras.viewmats, whole.viewmats)
    ratio = cameras.Ks[:, 0, 0] / cameras.width
    assert torch.allclose(ratio, whole.Ks[:, 0, 0] / whole.width)
