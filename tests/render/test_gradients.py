"""Gradients without an autograd graph equal those of autograd."""

from dataclasses import replace

import pytest
import torch
from helpers import look_at_cameras, random_gaussians

from render import GradientRender, RasterizeSettings, rasterize

SETTINGS = RasterizeSettings(render_mode="RGB")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_gradients_equal_those_of_autograd(
    with_alpha: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    scene = random_gaussians(300, generator, 1, dtype)
    cameras = look_at_cameras(2, dtype=dtype)
    leaves = scene.map(lambda t: t.clone().requires_grad_())
    totals = scene.map(torch.zeros_like)
    for view in range(2):
        kept = GradientRender(scene, cameras[view], SETTINGS)
        viewmat = cameras.viewmats[view].clone().requires_grad_()
        camera = replace(cameras[view], viewmats=viewmat)
        expected = rasterize(leaves, camera, settings=SETTINGS)
        assert torch.equal(kept.rgb, expected.rgb) and torch.equal(kept.alpha, expected.alpha)
        v_rgb, v_alpha = (
            torch.randn(image.shape, generator=generator, dtype=dtype)
            for image in (kept.rgb, kept.alpha)
        )
        v_viewmat = kept.backward(v_rgb, totals, view > 0, v_alpha if with_alpha else None)
        total = (expected.rgb * v_rgb).sum()
        (total + (expected.alpha * v_alpha).sum() if with_alpha else total).backward()
        assert viewmat.grad is not None and torch.allclose(v_viewmat, viewmat.grad)
    for name, leaf in vars(leaves).items():
        assert torch.allclose(getattr(totals, name), leaf.grad, rtol=1e-5, atol=1e-6), name
