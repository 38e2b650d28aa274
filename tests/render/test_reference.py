"""The reference rasterizer: invariance, known images, gradients, memory."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from helpers import look_at_cameras, random_gaussians, random_sim3
from memory import in_fresh_process, peak_bytes

from render import Cameras, Gaussians, RasterizeSettings, rasterize
from render.backends import reference


def one_gaussian(
    position: list[float], sigma: float, opacity: float, color: list[float]
) -> Gaussians:
    return Gaussians(
        means=torch.tensor([position]).double(),
        quats=torch.tensor([[1.0, 0, 0, 0]]).double(),
        scales=torch.full((1, 3), sigma).double(),
        opacities=torch.tensor([opacity]).double(),
        sh=((torch.tensor([[color]]) - 0.5) / 0.28209479177387814).double(),
    )


def plain_camera(width: int = 32, height: int = 24, focal: float = 40.0) -> Cameras:
    return Cameras.from_focal(torch.eye(4).double()[None], focal, width, height)


@pytest.mark.parametrize("antialiased", [False, True])
def test_render_is_invariant_to_sim3(antialiased: bool, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(60, generator, degree=3), look_at_cameras(2)
    settings = RasterizeSettings(antialiased=antialiased)
    before = rasterize(scene, cameras, settings=settings)
    for _ in range(3):
        transform = random_sim3(generator)
        after = rasterize(
            scene.transformed(transform), cameras.transformed(transform), settings=settings
        )
        assert torch.allclose(before.rgb, after.rgb, atol=1e-9)
        assert torch.allclose(before.alpha, after.alpha, atol=1e-9)
        assert torch.allclose(transform.scale * before.depth, after.depth, atol=1e-8)


def test_gaussian_peaks_at_its_pixel() -> None:
    camera = plain_camera()
    rays_o, rays_d = camera.rays()
    position = (rays_o + 3.0 * rays_d)[0, 9, 21]
    output = rasterize(one_gaussian(position.tolist(), 0.05, 0.9, [1, 0, 0]), camera)
    assert divmod(int(output.alpha.argmax()), camera.width) == (9, 21)
    assert float(output.alpha.max()) == pytest.approx(0.9, abs=1e-6)


def test_alpha_profile_is_the_ewa_gaussian() -> None:
    """At dx pixels from the centre: opacity * exp(-dx^2 / (2 (f sigma / z)^2 + 2 eps))."""
    camera, z, sigma = plain_camera(33, 25), 2.0, 0.1
    output = rasterize(one_gaussian([0, 0, z], sigma, 0.8, [1, 1, 1]), camera)
    variance = (40 * sigma / z) ** 2 + 0.3
    for dx in (0, 1, 3, 5):
        expected = 0.8 * torch.exp(torch.tensor(-(dx**2) / (2 * variance)))
        assert float(output.alpha[0, 0, 12, 16 + dx]) == pytest.approx(float(expected), rel=1e-6)


def test_nearer_occludes_farther_in_any_order() -> None:
    near = one_gaussian([0, 0, 2.0], 0.5, 0.99, [1, 0, 0])
    far = one_gaussian([0, 0, 4.0], 1.0, 0.99, [0, 0, 1])
    camera = plain_camera()
    one = rasterize(Gaussians.cat([near, far]), camera)
    two = rasterize(Gaussians.cat([far, near]), camera)
    middle = one.rgb[0, :, 12, 16]
    assert middle[0] > 0.95 and middle[2] < 0.05
    assert torch.equal(one.rgb, two.rgb)


def test_compositing_by_hand() -> None:
    """Two layers and a background at the centre pixel: a1 c1 + (1-a1) a2 c2 + ... ."""
    camera = plain_camera(33, 25)
    layers = [one_gaussian([0, 0, 2.0], 0.3, 0.6, [1, 0, 0])]
    layers.append(one_gaussian([0, 0, 3.0], 0.3, 0.5, [0, 1, 0]))
    background = torch.tensor([[0.0, 0.0, 1.0]]).double()
    output = rasterize(Gaussians.cat(layers), camera, backgrounds=background)
    expected = torch.tensor([0.6, 0.4 * 0.5, 0.4 * 0.5]).double()
    assert torch.allclose(output.rgb[0, :, 12, 16], expected, atol=1e-6)
    assert float(output.depth[0, 0, 12, 16]) == pytest.approx(0.6 * 2 + 0.2 * 3)
    assert float(output.expected_depth[0, 0, 12, 16]) == pytest.approx(1.8 / 0.8)


def test_fronto_parallel_plane_has_constant_depth() -> None:
    camera = plain_camera()
    rays_o, rays_d = camera.rays()
    means = (rays_o + 5.0 * rays_d).reshape(-1, 3)
    plane = Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).double().expand(len(means), 4),
        scales=torch.full((len(means), 3), 0.1).double(),
        # Not 1: at alpha 0.999 a pixel ends before its last, most opaque Gaussian.
        opacities=torch.full((len(means),), 0.9).double(),
        sh=torch.zeros(len(means), 1, 3).double(),
    )
    output = rasterize(plane, camera)
    assert float(output.alpha.min()) > 0.99
    assert torch.allclose(output.expected_depth, torch.tensor(5.0).double(), atol=1e-6)


def test_gaussians_outside_the_depth_range_are_left_out() -> None:
    camera = plain_camera()
    behind = one_gaussian([0, 0, -2.0], 0.5, 0.9, [1, 1, 1])
    assert float(rasterize(behind, camera).alpha.abs().max()) == 0
    far = one_gaussian([0, 0, 9.0], 0.5, 0.9, [1, 1, 1])
    assert float(rasterize(far, camera, settings=RasterizeSettings(far=8.0)).alpha.max()) == 0
    assert float(rasterize(far, camera).alpha.max()) > 0.5


def test_batch_equals_loop_and_bands_do_not_matter(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [random_gaussians(40, generator, degree=1) for _ in range(2)]
    cameras = look_at_cameras(3)
    batch = Gaussians(
        **{f.name: torch.stack([getattr(s, f.name) for s in scenes]) for f in fields(Gaussians)}
    )
    both = replace(
        cameras, viewmats=cameras.viewmats.expand(2, 3, 4, 4), Ks=cameras.Ks.expand(2, 3, 3, 3)
    )
    together = rasterize(batch, both)
    monkeypatch.setattr(reference, "PAIRS_PER_BAND", 300)
    for b, scene in enumerate(scenes):
        for v in range(3):
            alone = rasterize(scene, cameras[[v]])
            assert torch.allclose(together.rgb[b, v], alone.rgb[0], atol=1e-12)


def test_gradcheck_of_every_input(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(4, generator, degree=1), look_at_cameras(1, 12, 10)
    # No cut-offs: finite differences must not step over a threshold.
    settings = RasterizeSettings(alpha_min=1e-9, transmittance_min=0.0)
    names = [f.name for f in fields(Gaussians)]
    background = torch.rand(1, 3, generator=generator, dtype=torch.float64)

    def render(*tensors: torch.Tensor) -> torch.Tensor:
        moved = replace(cameras, viewmats=tensors[-2])
        output = rasterize(
            Gaussians(**dict(zip(names, tensors[:5], strict=True))),
            moved,
            backgrounds=tensors[-1],
            settings=settings,
        )
        return torch.cat([output.rgb, output.alpha, output.depth], -3)

    inputs = [getattr(scene, name).clone() for name in names] + [cameras.viewmats, background]
    inputs = [t.clone().requires_grad_() for t in inputs]
    assert torch.autograd.gradcheck(render, inputs, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_empty_scene_is_background() -> None:
    scene = random_gaussians(3, torch.Generator().manual_seed(0))[torch.zeros(3).bool()]
    background = torch.tensor([[0.2, 0.4, 0.6]]).double()
    output = rasterize(scene, plain_camera(), backgrounds=background)
    assert torch.allclose(output.rgb[0, :, 3, 5], background[0])


def test_validate_names_the_attribute(generator: torch.Generator) -> None:
    scene = random_gaussians(3, generator)
    scene.validate()
    with pytest.raises(ValueError, match="opacities must lie"):
        replace(scene, opacities=scene.opacities + 2).validate()
    with pytest.raises(ValueError, match="means has 9 non-finite"):
        replace(scene, means=scene.means * float("nan")).validate()
    with pytest.raises(ValueError, match="quats has 3 quaternions of length zero"):
        replace(scene, quats=0 * scene.quats).validate()
    for name, wrong, expected in [
        ("means", scene.means[:, :2], r"\(\*n, 3\)"),
        ("quats", scene.quats[:2], r"\(3, 4\)"),
        ("scales", scene.scales[:, :1], r"\(3, 3\)"),
        ("opacities", scene.opacities[:, None], r"\(3,\)"),
        ("sh", scene.sh[:, 0], r"\(3, k, 3\)"),
    ]:
        message = rf"Gaussians.{name} has shape .*, expected {expected}"
        # Around the checks of shapes that tests switch on: users do not have them.
        changed = copy.copy(scene)
        object.__setattr__(changed, name, wrong)
        with pytest.raises(ValueError, match=message):
            changed.validate()
    with pytest.raises(ValueError, match="SH coefficients, got 2"):
        replace(scene, sh=scene.sh[:, [0, 0]]).validate()
    scene[0].validate()
    scene.map(lambda tensor: torch.stack([tensor, tensor])).validate()


def _peak_of_full_size_scene(backend: str) -> int:
    side, generator = 256, torch.Generator().manual_seed(0)
    camera = Cameras.from_focal(torch.eye(4)[None], 250.0, side, side)
    rays_o, rays_d = camera.rays()
    depth = 2 + 2 * torch.rand(2, side, side, 1, generator=generator)
    means = (rays_o + depth * rays_d).reshape(-1, 3).requires_grad_()
    count = len(means)
    scene = Gaussians(
        means=means,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=(depth.reshape(-1, 1) / 250 * 0.7).expand(-1, 3),
        opacities=0.05 + 0.9 * torch.rand(count, generator=generator),
        sh=torch.randn(count, 1, 3, generator=generator),
    )
    rasterize(scene, camera, backend=backend).rgb.square().mean().backward()
    assert means.grad is not None and bool(torch.isfinite(means.grad).all())
    return peak_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "limit_gb"), [("cpu", 0.6), ("reference", 1.5)])
def test_full_size_scene_fits_in_memory(backend: str, limit_gb: float) -> None:
    """131,072 pixel-aligned Gaussians at 256x256, forward and backward."""
    peak = in_fresh_process(_peak_of_full_size_scene, backend)
    assert 0.1 < peak / 1e9 < limit_gb
