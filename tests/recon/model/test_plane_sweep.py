"""The model `plane-sweep` on the sample scene, whose depth is known exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import psnr, random_sim3

from recon.capture import load_capture, load_views
from recon.model.mvs.depth_range import estimate_depth_range
from recon.model.mvs.pixel_gaussians import PixelGaussianConfig, pixel_gaussians
from recon.model.mvs.plane_sweep import PlaneSweep
from recon.model.registry import build_model, model_names
from recon.types import Prediction, Views
from render import rasterize
from training.data.sample_scene import render_sample, sample_cameras

SIZE_PX = 256


def ignore(fraction: float) -> None:
    """Ignore progress."""


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    frames = load_capture(sample).frames
    return load_views([frames[i] for i in (2, 3, 4)], SIZE_PX)


@pytest.fixture(scope="module")
def prediction(views: Views) -> Prediction:
    return PlaneSweep()(views, ignore)


def true_depth(index: int) -> torch.Tensor:
    camera = sample_cameras(SIZE_PX, SIZE_PX * 3 // 4)[[index]]
    return render_sample(camera, supersampling=1).depth


def test_depth_is_accurate(prediction: Prediction) -> None:
    exact = true_depth(3)
    error = (prediction.depth[1] - exact).abs() / exact
    # Measured: 0.96 %, 0.91, 0.96, 0.93.
    assert float(error.median()) < 0.013
    assert float((error < 0.05).float().mean()) > 0.88
    confident = prediction.confidence[1] > 0.9
    assert float(confident.float().mean()) > 0.85
    assert float((error[confident] < 0.05).float().mean()) > 0.9


def test_every_pixel_becomes_a_gaussian(prediction: Prediction, views: Views) -> None:
    assert len(prediction.gaussians) >= 0.97 * views.masks.numel()
    prediction.gaussians.validate()
    rendered = rasterize(prediction.gaussians, views.cameras[[1]])
    assert float(rendered.alpha.min()) > 0.5 and float(rendered.alpha.mean()) > 0.98
    assert psnr(rendered.rgb[0], views.images[1]) > 22


def test_range_contains_the_scene(views: Views) -> None:
    found, exact = estimate_depth_range(views), true_depth(3)
    low, high = torch.quantile(exact, torch.tensor([0.05, 0.95])).tolist()
    assert float(found.near[1]) < low and high < float(found.far[1])
    assert float(found.near[1]) > 0.3 * low and float(found.far[1]) < 3 * high


def test_range_of_cameras_one_behind_the_other() -> None:
    """A camera further back sees points however near."""
    middle = sample_cameras(SIZE_PX, SIZE_PX * 3 // 4)[[3]]
    viewmats = middle.viewmats.repeat(4, 1, 1)
    viewmats[:, 2, 3] += torch.tensor([0.9, 0.6, 0.3, 0.0]).to(viewmats)
    cameras = replace(middle, viewmats=viewmats, Ks=middle.Ks.expand(4, -1, -1))
    rendered = [render_sample(cameras[[v]], supersampling=1) for v in range(4)]
    images = torch.stack([image.rgb for image in rendered]).float()
    ones = torch.ones_like(images[:, :1])
    cameras = replace(cameras, viewmats=viewmats.float(), Ks=cameras.Ks.float())
    found = estimate_depth_range(Views(images, ones, ones, cameras, ("a", "b", "c", "d")))
    for v, image in enumerate(rendered):
        low, high = torch.quantile(image.depth, torch.tensor([0.05, 0.95])).tolist()
        assert 0.4 * low < float(found.near[v]) < 1.2 * low
        assert 0.8 * high < float(found.far[v]) < 3 * high


def test_stated_range_is_used(views: Views) -> None:
    stated = replace(views, depth_bounds=torch.tensor([[2.0, 9.0]]).expand(3, 2))
    depth = PlaneSweep()(stated, ignore).depth
    assert float(depth.min()) >= 2 - 1e-4 and float(depth.max()) <= 9 + 1e-3


def test_scene_follows_a_sim3_of_the_cameras(prediction: Prediction, views: Views) -> None:
    transform = random_sim3(torch.Generator().manual_seed(3), torch.float32)
    moved = replace(views, cameras=views.cameras.transformed(transform))
    depth = PlaneSweep()(moved, ignore).depth
    relative = (depth / transform.scale / prediction.depth - 1).abs()
    # Rounding moves a few pixels to another plane.
    assert float(relative.median()) < 1e-3 and float((relative < 0.02).float().mean()) > 0.97


def test_view_order_permutes_the_depths(prediction: Prediction, views: Views) -> None:
    reordered = [2, 1, 0]
    names = tuple(views.names[i] for i in reordered)
    swapped = replace(
        views,
        images=views.images[reordered],
        masks=views.masks[reordered],
        valid=views.valid[reordered],
        cameras=views.cameras[reordered],
        names=names,
    )
    depth = PlaneSweep()(swapped, ignore).depth[reordered]
    assert float(((depth / prediction.depth - 1).abs() < 0.01).float().mean()) > 0.99


@pytest.mark.parametrize("name", model_names())
def test_masked_pixels_become_no_gaussians(name: str, views: Views) -> None:
    masks = views.masks.clone()
    masks[:, :, :, : SIZE_PX // 2] = 0
    masked = replace(views, masks=masks, images=views.images * masks).resized(0.5)
    prediction = build_model(name)(masked, ignore)
    assert len(prediction.gaussians) <= masked.masks.sum()
    pixels, _ = masked.cameras[[0]].project(prediction.gaussians.means[:100])
    assert float(pixels[0, :, 0].min()) > SIZE_PX / 4 - 1


def test_discs_lie_in_the_surface(views: Views) -> None:
    """Discs on a slanted plane have the plane's normal."""
    rays_o, rays_d = views.cameras.rays()
    normal = torch.nn.functional.normalize(torch.tensor([0.3, 1.0, 0.4]), dim=0)
    depth = ((torch.tensor([0.0, 3.0, 0.0]) - rays_o) @ normal) / (rays_d @ normal)
    keep = torch.zeros_like(depth, dtype=torch.bool)
    keep[:, 60:130, 60:190] = True
    scene, source_view = pixel_gaussians(views, depth, keep, PixelGaussianConfig())
    assert len(scene) == int(keep.sum())
    assert torch.equal(torch.bincount(source_view, minlength=len(views)), keep.sum((1, 2)))
    thin = scene.scales.argmin(-1)
    assert bool((thin == 2).all())
    across = torch.linalg.eigh(scene.covars().double()).eigenvectors[:, :, 0]
    assert float((across @ normal.double()).abs().min()) > 0.999
