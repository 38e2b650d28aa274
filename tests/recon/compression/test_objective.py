"""The objective of the compression and its cameras."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import look_at_cameras, random_gaussians

from recon.compression import RateDistortionObjective, compress
from recon.compression.objective import MAX_DISPLACEMENT, cameras_around, cameras_between
from recon.compression.reduction import reduce_count
from recon.formats import SceneSource, load_gaussians
from recon.simplification.decimation import contribution
from recon.types import Views
from render import Cameras, Gaussians, RasterizeSettings, rasterize
from render.paths import focus_point


def cameras_and_scene() -> tuple[Cameras, Gaussians]:
    cameras = look_at_cameras(3, dtype=torch.float32)
    return cameras, random_gaussians(200, torch.Generator().manual_seed(0), dtype=torch.float32)


def test_midpoints_between_two_cameras() -> None:
    cameras, scene = cameras_and_scene()
    assert cameras_between(cameras[[0]], 0.5) is None
    half = cameras_between(cameras[[0, 1]], 0.5)
    assert half is not None
    assert torch.allclose(half.centers, cameras[[0, 1]].centers.mean(0).expand(2, 3), atol=1e-4)


def test_four_cameras_around_each_one() -> None:
    cameras, scene = cameras_and_scene()
    spacing = float((cameras.centers[0] - cameras.centers[1]).norm())
    moved = cameras_around(scene, cameras, 0.1)
    assert len(moved) == 4 * len(cameras)
    for i in range(len(cameras)):
        mine = moved[list(range(4 * i, 4 * i + 4))]
        step = mine.centers - cameras.centers[i]
        assert torch.allclose(step.norm(dim=1), torch.tensor(0.1 * spacing), rtol=1e-3)
        # On all sides of it, and with the same focus point.
        assert float(step.mean(0).norm()) < 1e-4
        focus = focus_point(scene, cameras[[i]])
        pixels, depth = mine.project(focus[None])
        assert (depth > 0).all()
        assert torch.allclose(pixels[:, 0], mine.Ks[:, :2, 2], atol=1e-2)
        assert torch.allclose(torch.linalg.det(mine.viewmats), torch.ones(4), atol=1e-4)
        # Its up direction is kept.
        assert (mine.viewmats[:, 1, :3] @ cameras.viewmats[i, 1, :3] > 0.9).all()


def test_displacement_is_limited_for_a_single_camera() -> None:
    cameras, scene = cameras_and_scene()
    moved = cameras_around(scene, cameras[[0]], 0.3)
    reach = float((focus_point(scene, cameras[[0]]) - cameras.centers[0]).norm())
    distance = (moved.centers - cameras.centers[0]).norm(dim=1)
    assert torch.allclose(distance, torch.tensor(MAX_DISPLACEMENT * reach), rtol=1e-3)


def test_gaussians_that_photos_do_not_see_contribute_to_training_views() -> None:
    camera = look_at_cameras(1, dtype=torch.float32)
    scene = Gaussians(
        # One behind the other, but for the smaller one's edge.
        means=torch.tensor([[0.0, 0.0, -2.0], [0.0, 0.0, 2.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(2, 4),
        scales=torch.tensor([[0.6, 0.6, 0.01], [0.05, 0.05, 0.01]]),
        opacities=torch.full((2,), 0.999),
        sh=torch.zeros(2, 1, 3),
    )
    hidden = contribution(scene, camera)[1]
    shown = rasterize(scene, camera).rgb
    ones = torch.ones_like(shown[:, :1])
    objective = RateDistortionObjective.of(
        scene, camera, photos=Views(shown, ones, ones, camera, ("photo",))
    )
    assert contribution(scene, objective.train_views.cameras)[1] > 10 * hidden + 1e-3


def test_scenes_for_antialiased_rendering_are_compared_and_fitted_that_way() -> None:
    cameras, scene = cameras_and_scene()
    # Thinner than a pixel, where the two ways of rendering differ.
    thin = replace(scene, scales=0.1 * scene.scales)
    settings = RasterizeSettings(render_mode="RGB", antialiased=True)
    objective = RateDistortionObjective.of(thin, cameras, antialiased=True)
    wanted = rasterize(thin, cameras[[0]], settings=settings).rgb[0].clamp(0, 1)
    assert torch.equal(objective.eval_images[0], wanted)
    assert objective.change(thin) == 0
    assert RateDistortionObjective.of(thin, cameras).change(thin) == 0
    classic = replace(objective, settings=RasterizeSettings(render_mode="RGB"))
    assert classic.change(thin) > 0
    # A smaller scene that was fitted to images of the other kind is off by more.
    fitted, other = (reduce_count(thin, 100, each) for each in (objective, classic))
    assert objective.change(fitted) < 0.8 * objective.change(other)


def test_loss_of_a_file_for_antialiased_rendering(tmp_path: Path) -> None:
    cameras, scene = cameras_and_scene()
    thin = replace(scene, scales=0.1 * scene.scales)
    source = SceneSource.of(thin, antialiased=True)
    found = compress(source, tmp_path / "a.ply", keep_fraction=0.5, cameras=cameras)
    objective = RateDistortionObjective.of(thin, cameras, antialiased=True)
    assert found.loss_db == pytest.approx(objective.loss_db(load_gaussians(found.path)), abs=1e-6)
    assert found.loss_db > 0.1
