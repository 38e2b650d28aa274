"""Loss terms computed by hand, and perceptual distances."""

import sys
import types
from dataclasses import replace

import pytest
import torch
from torch import nn

from recon.errors import ReconError
from recon.model.api import NetworkOutput, ViewBatch
from recon.optimisation.photo_loss import ssim
from render import Cameras, Gaussians, RasterizeSettings, RenderOutput, rasterize
from render.cameras import look_at
from training.data.types import Batch
from training.losses import (
    LossConfig,
    LossInputs,
    configured_losses,
    distortion_loss,
    draw_backgrounds,
    evaluate_losses,
)
from training.perceptual import Vgg19Distance, perceptual_distance


def camera(side: int = 16) -> Cameras:
    return Cameras.from_focal(torch.eye(4)[None, None], 20.0, side, side)


def row_of_gaussians(depths: list[float], opacity: float) -> Gaussians:
    """Large ones, one behind the other."""
    count = len(depths)
    return Gaussians(
        means=torch.tensor([[[0.0, 0.0, z] for z in depths]]),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        scales=torch.tensor([[[5.0, 5.0, 0.01]] * count]),
        opacities=torch.full((1, count), opacity),
        sh=torch.zeros(1, count, 1, 3),
    )


def test_distortion_by_hand() -> None:
    """Two layers of weights w1, w2 at 1/z apart by d: 2 w1 w2 d^2; one layer: nothing."""
    wide = replace(camera(4), width=4, height=4)
    assert float(distortion_loss(row_of_gaussians([2.0], 0.6), wide)) == pytest.approx(0, abs=1e-6)
    two = row_of_gaussians([1.0, 2.0], 0.6)
    w1, w2 = 0.6, 0.6 * 0.4
    relative = (1 - 0.5) / 0.75
    expected = 2 * w1 * w2 * relative**2
    assert float(distortion_loss(two, wide)) == pytest.approx(expected, rel=0.05)
    far = Cameras(look_at(torch.tensor([0.0, -9, 0]), torch.zeros(3))[None, None], wide.Ks, 4, 4)
    behind = row_of_gaussians([-20.0, 1.0], 0.6)
    assert bool(torch.isfinite(distortion_loss(behind, far)))


def test_distortion_brings_layers_together() -> None:
    depth = torch.tensor([1.0, 1.6], requires_grad=True)
    gaussians = row_of_gaussians([1.0, 1.6], 0.6)
    axis = torch.tensor([0.0, 0.0, 1.0])
    distortion_loss(replace(gaussians, means=(depth[:, None] * axis)[None]), camera(4)).backward()
    assert depth.grad is not None and float(depth.grad[0]) < 0 < float(depth.grad[1])


def outputs(depth: torch.Tensor) -> tuple[NetworkOutput, torch.Tensor]:
    gaussians = row_of_gaussians([2.0], 0.6)
    return NetworkOutput(gaussians, depth, torch.ones_like(depth)), torch.zeros(1, 1, 3, 16, 16)


def losses_of(
    config: LossConfig,
    output: NetworkOutput,
    rendered: RenderOutput,
    images: torch.Tensor,
    depth: torch.Tensor,
    cameras: Cameras,
) -> dict[str, torch.Tensor]:
    ends = torch.ones(1, 1)
    batch = Batch(ViewBatch(images, cameras, ends, ends), cameras, images, depth)
    return evaluate_losses(configured_losses(config), LossInputs(output, rendered, batch))


def test_random_backgrounds_favour_opaque_surfaces() -> None:
    """A half-transparent layer twice as bright as the image: right on black, wrong on most."""
    layer = row_of_gaussians([2.0], 0.5)
    opacity = torch.full((1, 1), 0.5, requires_grad=True)
    assert draw_backgrounds(LossConfig(), camera()) is None
    torch.manual_seed(0)
    colors = [draw_backgrounds(LossConfig(background="random"), camera()) for _ in range(8)]
    assert all(c is not None and c.shape == (1, 1, 3) for c in colors)
    assert not torch.equal(*colors[:2])
    for color in colors:
        made = replace(layer, opacities=opacity)
        shown = rasterize(made, camera(), backgrounds=color)
        (shown.rgb - 0.25).square().mean().backward()
    assert opacity.grad is not None and float(opacity.grad) < 0


def test_leak_is_the_mean_transparency() -> None:
    output, images = outputs(torch.full((1, 1, 16, 16), 2.0))
    shown = rasterize(output.gaussians, camera())
    config = LossConfig(mse=0.0, depth=0.0, leak=2.0)
    total = losses_of(config, output, shown, images, output.depth, camera())["total"]
    assert float(total) == pytest.approx(2 * 0.4, abs=0.02)


def test_pose_error_by_hand() -> None:
    """180 degrees about x differ by sqrt(8); the camera is 3 away, at a middle depth of 1."""
    output, images = outputs(torch.full((1, 1, 16, 16), 2.0))
    config = LossConfig(mse=0.0, depth=0.0, pose=0.5)
    shown = rasterize(output.gaussians, camera())
    given = camera()
    predicted = torch.eye(4)[None, None].clone()
    predicted[..., [1, 2], [1, 2]] = -1
    predicted[..., 0, 3] = 3
    with_poses = replace(output, viewmats=predicted)
    total = losses_of(config, with_poses, shown, images, output.depth, given)["total"]
    assert float(total) == pytest.approx(0.5 * (8**0.5 + 3), abs=1e-3)
    exact = replace(output, viewmats=given.viewmats.clone().requires_grad_())
    total = losses_of(config, exact, shown, images, output.depth, given)["total"]
    (slope,) = torch.autograd.grad(total, exact.viewmats)
    assert float(total.detach()) < 2e-3 and bool(torch.isfinite(slope).all())
    with pytest.raises(ReconError, match="loss.pose needs a network that predicts poses"):
        losses_of(config, output, shown, images, output.depth, given)


def test_ssim_is_part_of_the_total_and_has_gradients(generator: torch.Generator) -> None:
    output, _ = outputs(torch.full((1, 1, 16, 16), 2.0))
    opacities = output.gaussians.opacities.clone().requires_grad_()
    output = replace(output, gaussians=replace(output.gaussians, opacities=opacities))
    images = torch.rand(1, 1, 3, 16, 16, generator=generator)
    shown = rasterize(output.gaussians, camera())
    config = LossConfig(mse=0.0, depth=0.0, ssim=0.5)
    losses = losses_of(config, output, shown, images, output.depth, camera())
    expected = 1 - float(ssim(shown.rgb[0, 0].detach(), images[0, 0]))
    assert float(losses["ssim"].detach()) == pytest.approx(expected) != 0
    losses["total"].backward()
    assert float(losses["total"].detach()) == pytest.approx(0.5 * expected)
    assert opacities.grad is not None and float(opacities.grad.abs().max()) > 0


def test_depth_counts_where_it_is_known() -> None:
    depth = torch.full((1, 1, 16, 16), 2.0)
    output, images = outputs(torch.e * depth)
    output = replace(output, intermediate_depths=(depth.clone(),))
    depth[..., :8] = float("nan")
    shown = rasterize(output.gaussians, camera(), settings=RasterizeSettings(render_mode="RGB"))
    config = LossConfig(mse=0.0, depth=2.0, opacity=0.5)
    losses = losses_of(config, output, shown, images, depth, camera())
    assert float(losses["depth"]) == pytest.approx(0.5)  # 1 for the one, 0 for the earlier
    assert float(losses["total"]) == pytest.approx(2 * 0.5 + 0.5 * 0.6, rel=1e-4)
    unknown = torch.full_like(depth, float("nan"))
    assert float(losses_of(config, output, shown, images, unknown, camera())["depth"]) == 0


@pytest.mark.parametrize("net", ["st_lpips_vgg", "st_lpips_alex"])
def test_perceptual_distance_grows_with_blur_and_has_gradients(net: str) -> None:
    try:
        distance = perceptual_distance(net, "cpu")
    except ReconError:
        pytest.skip("stlpips-pytorch is not installed")
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, 64, 64, generator=generator)
    blurs = [torch.nn.functional.avg_pool2d(photo, k, 1, k // 2) for k in (3, 9)]
    little, much = (blur.requires_grad_() for blur in blurs)
    assert float(distance(photo, photo)) == pytest.approx(0, abs=1e-6)
    near, far = distance(little, photo), distance(much, photo)
    assert 0 < float(near.detach()) < float(far.detach())
    far.sum().backward()
    assert much.grad is not None and float(much.grad.abs().max()) > 0


def test_perceptual_loss_is_part_of_the_total() -> None:
    try:
        perceptual_distance("st_lpips_alex", "cpu")
    except ReconError:
        pytest.skip("stlpips-pytorch is not installed")
    depth = torch.full((1, 1, 64, 64), 2.0)
    output, images = outputs(depth)[0], torch.zeros(1, 1, 3, 64, 64)
    shown = rasterize(output.gaussians, camera(64), settings=RasterizeSettings(render_mode="RGB"))
    config = LossConfig(mse=0.0, depth=0.0, perceptual=2.0, perceptual_net="st_lpips_alex")
    losses = losses_of(config, output, shown, images, depth, camera(64))
    assert float(losses["total"]) == pytest.approx(2 * float(losses["perceptual"])) != 0


def test_torchvision_weights_are_read_but_never_fetched(tmp_path, monkeypatch) -> None:
    """With a stand-in for torchvision: its network, its file name, random weights."""
    layers = [nn.Conv2d(3, 4, 3, padding=1)]
    layers += [nn.Conv2d(4, 4, 3, padding=1) for _ in range(31)]
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    weights = types.SimpleNamespace(url="https://example.org/vgg19-x.pth")
    models = types.ModuleType("torchvision.models")
    models.vgg19 = lambda: network
    models.VGG19_Weights = types.SimpleNamespace(IMAGENET1K_V1=weights)
    package = types.ModuleType("torchvision")
    package.models = models
    package.__spec__ = types.SimpleNamespace(name="torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    perceptual_distance.cache_clear()
    with pytest.raises(ReconError, match=r"no weights at .*vgg19-x.pth; download them"):
        perceptual_distance("torchvision_vgg19", "cpu")
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "vgg19-x.pth")
    distance = perceptual_distance("torchvision_vgg19", "cpu")
    assert isinstance(distance, Vgg19Distance)
    photo = torch.rand(2, 3, 16, 16)
    assert torch.equal(distance(photo, photo), torch.zeros(2))
    assert bool((distance(photo, 1 - photo) > 0).all())
    perceptual_distance.cache_clear()
