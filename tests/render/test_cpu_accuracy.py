"""The CPU kernel against the float64 reference: images and every gradient."""

from dataclasses import replace

import pytest
import torch
from agreement import agreement, crop_of_s1, degenerate_scene
from helpers import look_at_cameras, random_gaussians

from render import Gaussians, RasterizeSettings, rasterize

MODES = pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])


@MODES
@pytest.mark.parametrize("degree", range(5))
def test_random_scenes(degree: int, antialiased: bool, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(200, generator, degree), look_at_cameras(2, 97, 71)
    agreement(scene, cameras, RasterizeSettings(antialiased=antialiased)).check()


@MODES
@pytest.mark.parametrize("degree", [0, 3])
def test_crop_of_a_pixel_aligned_scene(degree: int, antialiased: bool) -> None:
    agreement(*crop_of_s1(degree), RasterizeSettings(antialiased=antialiased)).check()


@MODES
def test_degenerate_gaussians(antialiased: bool, generator: torch.Generator) -> None:
    scene, cameras = degenerate_scene(generator)
    agreement(scene, cameras, RasterizeSettings(antialiased=antialiased)).check()


@MODES
@pytest.mark.parametrize("index", range(7))
def test_each_degenerate_kind_alone(
    index: int, antialiased: bool, generator: torch.Generator
) -> None:
    """One kind at a time, so that a huge gradient of one cannot hide another's."""
    scene, cameras = degenerate_scene(generator)
    alone = scene[torch.arange(5 * index, 5 * index + 5)]
    agreement(alone, cameras, RasterizeSettings(antialiased=antialiased)).check()


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 17, 40])
def test_channels_of_any_width(width: int, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(60, generator), look_at_cameras(2, 40, 37)
    channels = torch.randn(60, width, generator=generator)
    for mode in ("RGB", "RGB+D"):
        settings = RasterizeSettings(render_mode=mode)
        agreement(scene, cameras, settings, channels=channels).check()


@pytest.mark.parametrize("mode", ["RGB", "D", "RGB+D"])
def test_render_modes(mode: str, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(60, generator, 1), look_at_cameras(2)
    settings = RasterizeSettings(render_mode=mode)
    agreement(scene, cameras, settings).check()
    single = scene.to(torch.float32)
    output = rasterize(single, cameras.to(torch.float32), settings=settings)
    assert output.rgb.shape[-3] == (0 if mode == "D" else 3)
    assert output.depth.shape[-3] == (0 if mode == "RGB" else 1)


def test_expected_depth_is_differentiable(generator: torch.Generator) -> None:
    gradients = []
    for backend, dtype in (("reference", torch.float64), ("cpu", torch.float32)):
        scene = random_gaussians(50, torch.Generator().manual_seed(0)).to(torch.float32).to(dtype)
        means = scene.means.clone().requires_grad_()
        cameras = look_at_cameras(1).to(torch.float32).to(dtype)
        output = rasterize(replace(scene, means=means), cameras, backend=backend)
        output.expected_depth[output.alpha > 0.2].sum().backward()
        gradients.append(means.grad)
    difference = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert difference < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        RasterizeSettings(near=3.8, far=4.3),
        RasterizeSettings(radius_clip=9.0),
        RasterizeSettings(eps2d=0.0),
        RasterizeSettings(eps2d=2.0, antialiased=True),
        RasterizeSettings(alpha_max=0.5, alpha_min=0.05, transmittance_min=0.1),
        RasterizeSettings(alpha_min=1e-6, transmittance_min=0.0),
    ],
    ids=["near-far", "radius-clip", "eps0", "eps2", "cuts", "no-cuts"],
)
def test_settings(settings: RasterizeSettings, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(120, generator, 1), look_at_cameras(2, 60, 50)
    agreement(scene, cameras, settings).check()
    plain = rasterize(scene, cameras)
    assert not torch.allclose(rasterize(scene, cameras, settings=settings).rgb, plain.rgb)


def test_masks(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(80, generator), look_at_cameras(2)
    mask = torch.rand(80, generator=generator) < 0.5
    agreement(scene, cameras, mask=mask).check()
    single, placed = scene.to(torch.float32), cameras.to(torch.float32)
    masked = rasterize(single, placed, mask=mask)
    assert torch.equal(masked.rgb, rasterize(single[mask], placed).rgb)


def test_batches(generator: torch.Generator) -> None:
    scenes = [random_gaussians(40, generator, 1) for _ in range(2)]
    batch = Gaussians(
        *(torch.stack([getattr(s, n) for s in scenes]) for n in Gaussians.__dataclass_fields__)
    )
    cameras = look_at_cameras(3)
    both = replace(
        cameras, viewmats=cameras.viewmats.expand(2, 3, 4, 4), Ks=cameras.Ks.expand(2, 3, 3, 3)
    )
    mask = torch.rand(2, 40, generator=generator) < 0.7
    agreement(batch, both, mask=mask).check()


def test_absgrad(generator: torch.Generator) -> None:
    found = []
    for backend, dtype in (("reference", torch.float64), ("cpu", torch.float32)):
        scene = random_gaussians(60, torch.Generator().manual_seed(1)).to(torch.float32).to(dtype)
        scene = replace(scene, means=scene.means.clone().requires_grad_())
        cameras = look_at_cameras(2).to(torch.float32).to(dtype)
        settings = RasterizeSettings(absgrad=True)
        output = rasterize(scene, cameras, settings=settings, backend=backend)
        assert output.absgrad is not None and float(output.absgrad.abs().max()) == 0
        (output.rgb**2).sum().backward()
        found.append(output.absgrad)
    assert found[0].shape == (2, 60, 2) and float(found[0].max()) > 0
    assert torch.allclose(found[0].float(), found[1], rtol=1e-4, atol=1e-4)
