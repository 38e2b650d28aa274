"""The sample capture is the output of its generator, and its cameras fit its images."""

from pathlib import Path

import pytest
import torch
from helpers import psnr

from recon.capture import load_capture, load_views
from training.data.primitives import Box, Cylinder, Sphere
from training.data.sample_scene import VIEWS, render_sample, sample_cameras
from training.data.textures import fractal, marble

SIZE = (128, 96)


def test_committed_photos_are_the_generators(sample: Path) -> None:
    frames = load_capture(sample).frames
    assert len(frames) == VIEWS
    views = load_views(frames, SIZE[0])
    assert torch.allclose(views.cameras.viewmats, sample_cameras().viewmats.float(), atol=1e-5)
    fresh = render_sample(sample_cameras(*SIZE)[[5]], supersampling=3).rgb
    assert psnr(fresh, views.images[5]) > 30


def test_same_call_same_bytes() -> None:
    camera = sample_cameras(32, 24)[[0]]
    assert torch.equal(render_sample(camera, 1).rgb, render_sample(camera, 1).rgb)


def test_depth_of_known_points() -> None:
    """The table's top and the marble ball, by hand."""
    camera = sample_cameras(64, 48)[[3]]
    depth = render_sample(camera, 1).depth.double()
    rays_o, rays_d = camera.rays()
    points = (rays_o + depth[None, ..., None] * rays_d)[0]
    ball = torch.tensor([-0.62, 0.42, 0.42]).double()
    pixel = camera.project(ball[None])[0][0, 0].floor().long()
    assert float((points[pixel[1], pixel[0]] - ball).norm()) == pytest.approx(0.42, abs=1e-4)
    assert float(points[40, 32, 2]) == pytest.approx(0.0, abs=1e-4)


def test_solids_in_closed_form() -> None:
    origin = torch.tensor([[0.0, -5.0, 0.5]]).double()
    ahead = torch.tensor([[0.0, 1.0, 0.0]]).double()
    solids = [
        Sphere((0.0, 0.0, 0.5), 1.0, marble),
        Box((0.0, 0.0, 0.5), (2.0, 2.0, 2.0), 90.0, marble),
        Cylinder((0.0, 0.0, 0.0), 1.0, 2.0, marble),
    ]
    for solid in solids:
        t, normal = solid.hit(origin, ahead)
        assert float(t[0]) == pytest.approx(4.0)
        assert torch.allclose(normal[0], -ahead[0], atol=1e-9)
        assert float(solid.hit(origin, -ahead)[0][0]) > 1e8


def test_noise_is_smooth_and_bounded() -> None:
    points = torch.rand(2000, 3).double() * 10
    values = fractal(points)
    assert float(values.min()) >= 0 and float(values.max()) <= 1 and float(values.std()) > 0.05
    assert float((fractal(points + 1e-5) - values).abs().max()) < 1e-2
