"""Properties for any scene and any image size, checked by hypothesis."""

import pytest
import torch
from helpers import random_gaussians
from hypothesis import given, settings
from hypothesis import strategies as st

from render import Cameras, RasterizeSettings, measure_contributions, rasterize

COUNTS = st.one_of(st.just(0), st.just(1), st.integers(2, 40), st.just(2500))
SIZES = st.one_of(st.integers(1, 70), st.sampled_from([31, 32, 33, 64, 65, 128]))
SCENE = {
    "count": COUNTS,
    "width": SIZES,
    "height": SIZES,
    "views": st.integers(1, 3),
    "degree": st.integers(0, 4),
    "log_size": st.floats(-4, 2),
    "antialiased": st.booleans(),
    "seed": st.integers(0, 1000),
}
# The same examples on every run: a failure elsewhere can be repeated here.
STEADY = settings(max_examples=60, deadline=None, derandomize=True)


def make(count: int, width: int, height: int, views: int, degree: int, log_size: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    scene = random_gaussians(count, generator, degree).to(torch.float32)
    scene = scene.map(lambda t: t * 10**log_size if t is scene.scales else t)
    viewmats = torch.eye(4).repeat(views, 1, 1)
    viewmats[:, :3, 3] = torch.randn(views, 3, generator=generator) + torch.tensor([0.0, 0, 3])
    focal_px, center_px = (0.9 * width, 1.1 * height), (width / 3, height / 2)
    return scene, Cameras.from_focal(viewmats, focal_px, width, height, center_px)


@STEADY
@given(**SCENE)
def test_agrees_with_the_reference(antialiased: bool, **shape: int) -> None:
    scene, cameras = make(**shape)
    how = RasterizeSettings(antialiased=antialiased)
    rendered = rasterize(scene, cameras, settings=how)
    expected = rasterize(scene.to(torch.float64), cameras.to(torch.float64), settings=how)
    for name in ("rgb", "alpha"):
        error = (getattr(rendered, name) - getattr(expected, name)).abs()
        # Float32 may put a Gaussian on the other side of a threshold in a pixel or two.
        assert float(error.max()) < 0.02, name
        assert int((error > 1e-4).sum()) <= 3 + error.numel() // 1000, name


@STEADY
@given(**SCENE)
def test_invariants(antialiased: bool, **shape: int) -> None:
    scene, cameras = make(**shape)
    leaves = scene.map(lambda t: t.clone().requires_grad_())
    how = RasterizeSettings(antialiased=antialiased, absgrad=True)
    rendered = rasterize(leaves, cameras, settings=how)
    assert rendered.rgb.shape == (shape["views"], 3, shape["height"], shape["width"])
    assert bool((rendered.alpha >= 0).all()) and bool((rendered.alpha <= 1 - 9.9e-5).all())
    assert bool((rendered.rgb >= 0).all()) and bool(torch.isfinite(rendered.depth).all())
    (rendered.rgb.sum() + rendered.depth.sum()).backward()
    for name in ("means", "quats", "scales", "opacities", "sh"):
        gradient = getattr(leaves, name).grad
        assert gradient.shape == getattr(scene, name).shape
        assert bool(torch.isfinite(gradient).all()), name
    assert bool((rendered.absgrad >= 0).all())
    contributions = measure_contributions(scene, cameras, how)
    # The weights of all Gaussians add up to the alpha of all images.
    total = float(rendered.alpha.detach().double().sum())
    assert float(contributions.weight_sum.double().sum()) == pytest.approx(
        total, rel=1e-4, abs=1e-3
    )
    assert bool(
        (contributions.weight_max * contributions.hits >= contributions.weight_sum * 0.999).all()
    )
