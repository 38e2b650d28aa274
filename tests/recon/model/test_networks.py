"""Properties of all networks: any views and sizes, batches, permutation, Sim3, bf16, learning."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from helpers import psnr, random_sim3
from network_helpers import (
    moved,
    random_batch,
    render_view,
    sample_batch,
    sample_depth,
    stack,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recon.errors import ReconError
from recon.model.api import NetworkOutput
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.inference import NetworkModel, run_network
from recon.model.layers import attention, precision
from recon.model.layers.attention import attend
from recon.model.networks.gs_lrm import SIZES, GsLrmNetwork
from recon.model.registry import NETWORKS, build_network, named_size
from recon.types import Views
from render import Gaussians

EVERY = pytest.mark.parametrize("name", list(NETWORKS))


def tiny(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_network(name, named_size(name, "tiny"))
    # Initial weights hardly depend on the input: larger ones reveal mistakes.
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
            elif parameter.dim() > 1:
                parameter.mul_(4)
    return network.eval()


def parts_of(output: NetworkOutput) -> dict[str, torch.Tensor]:
    gaussians = {f.name: getattr(output.gaussians, f.name) for f in fields(Gaussians)}
    return {**gaussians, "depth": output.depth, "confidence": output.confidence}


@EVERY
@pytest.mark.parametrize(
    ("views", "width", "height"), [(1, 32, 32), (2, 33, 41), (3, 64, 48), (5, 17, 24), (8, 32, 40)]
)
def test_any_views_and_sizes(
    name: str, views: int, width: int, height: int, generator: torch.Generator
) -> None:
    batch = random_batch(generator, 2, views, width, height)
    with torch.no_grad():
        output = run_network(tiny(name), batch)
    assert output.depth.shape == (2, views, height, width)
    assert output.gaussians.means.shape[1] % (views * height * width) == 0
    for part, values in parts_of(output).items():
        assert bool(torch.isfinite(values).all()), part
    assert bool((output.depth >= 0.99 * batch.near[0, 0]).all())
    assert bool((output.depth <= 1.01 * batch.far[0, 0]).all())


@EVERY
def test_batch_equals_loop(name: str, generator: torch.Generator) -> None:
    network = tiny(name)
    scenes = [random_batch(generator, 1, 3, 32, 24) for _ in range(2)]
    with torch.no_grad():
        together = parts_of(run_network(network, stack(scenes)))
        for b, scene in enumerate(scenes):
            for part, values in parts_of(run_network(network, scene)).items():
                assert torch.allclose(together[part][b], values[0], atol=1e-4, rtol=1e-4), part


@EVERY
def test_order_of_views_permutes_the_output(name: str, generator: torch.Generator) -> None:
    network, batch = tiny(name), random_batch(generator, 1, 3, 32, 24)
    # The first view of pose-free is the frame of the result.
    order = [0, 2, 1] if name == "pose-free" else [2, 0, 1]
    with torch.no_grad():
        plain = run_network(network, batch)
        reordered = run_network(network, batch[order])
    assert torch.allclose(plain.depth[:, order], reordered.depth, rtol=1e-3)
    for part in ("means", "scales", "opacities", "sh"):
        by_view = getattr(plain.gaussians, part).unflatten(1, (3, -1))[:, order].flatten(1, 2)
        assert torch.allclose(by_view, getattr(reordered.gaussians, part), atol=2e-3, rtol=1e-3), (
            part
        )


@EVERY
def test_sim3_of_the_cameras_moves_the_scene(name: str, generator: torch.Generator) -> None:
    network, batch = tiny(name), random_batch(generator, 1, 3, 32, 24)
    with torch.no_grad():
        before = run_network(network, batch)
        for _ in range(3):
            transform = random_sim3(generator, torch.float32)
            after = run_network(network, moved(batch, transform)).gaussians
            expected = before.gaussians.map(lambda t: t[0]).transformed(transform)
            size = expected.means.norm(dim=-1).mean()
            assert float((after.means[0] - expected.means).norm(dim=-1).max()) < 1e-3 * size
            assert torch.allclose(after.scales[0], expected.scales, rtol=2e-3)
            assert torch.allclose(
                after.covars()[0],
                expected.covars(),
                atol=2e-3 * float(expected.covars().abs().max()),
            )
            assert torch.allclose(after.opacities[0], expected.opacities, atol=1e-3)


@EVERY
def test_views_without_baseline_take_the_scale_of_the_depths(
    name: str, generator: torch.Generator
) -> None:
    network, batch = tiny(name), random_batch(generator, 1, 1, 32, 24)
    with torch.no_grad():
        one = run_network(network, batch).gaussians
        grown = replace(batch, near=3 * batch.near, far=3 * batch.far)
        assert torch.allclose(
            run_network(network, grown).gaussians.scales, 3 * one.scales, rtol=1e-3
        )


@EVERY
def test_masked_pixels_become_no_gaussians(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network as a model of `recon`: world frame, mask, full size."""
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    batch = sample_batch([2, 4], 32, 24)
    masks = torch.ones(2, 1, 24, 32)
    masks[1, :, :, :20] = 0
    views = Views(
        batch.images[0], masks, torch.ones_like(masks), batch.cameras.flatten(), ("a", "b"),
        torch.stack([batch.near[0], batch.far[0]], 1),
    )  # fmt: skip
    network = tiny(name)
    found = NetworkModel(network)(views, lambda fraction: None)
    with torch.no_grad():
        means = run_network(network, batch).gaussians.means[0]
    per_pixel = len(means) // masks.numel()
    kept = means.unflatten(0, (-1, per_pixel))[masks.flatten() > 0].flatten(0, 1)
    assert torch.allclose(found.gaussians.means, kept, atol=1e-5)
    assert found.depth.shape == found.confidence.shape == (2, 24, 32)


@EVERY
def test_gradients_are_finite_at_bf16(name: str, generator: torch.Generator) -> None:
    network, batch = tiny(name).train(), random_batch(generator, 2, 2, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        output = run_network(network, batch)
    assert output.gaussians.means.dtype == torch.float32
    rendered = render_view(output.gaussians, batch, 0)
    (rendered.square().mean() + output.depth.log().mean()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), key
        assert float(parameter.grad.abs().max()) > 0, key


@EVERY
def test_recomputing_changes_nothing(name: str, generator: torch.Generator) -> None:
    batch, gradients = random_batch(generator, 1, 2, 16, 16), []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = build_network(name, replace(NETWORKS[name].sizes["tiny"], recompute=recompute))
        run_network(network, batch).depth.sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(*gradients, strict=True)
    )


@EVERY
@pytest.mark.slow
def test_overfits_a_scene_and_renders_a_held_out_view(name: str) -> None:
    """Train on three views at 64 px and test one between them: geometry, not copying."""
    context, held_out = [2, 3, 5], 4
    everything = sample_batch([*context, held_out])
    batch, depth = everything[[0, 1, 2]], sample_depth(context)
    torch.manual_seed(0)
    network = build_network(name, named_size(name, "tiny"))
    # Sampled depths make gradients noisy: `epipolar` needs a larger learning rate and more steps.
    steps, lr = {"cost-volume": (30, 3e-3), "epipolar": (110, 8e-3)}.get(name, (80, 4e-3))
    adam = torch.optim.Adam(network.parameters(), lr=lr, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, lr, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        output = run_network(network, batch)
        rendered = render_view(output.gaussians, batch, step % 3)
        loss = (rendered - batch.images[0, step % 3]).square().mean()
        loss = loss + 0.1 * (output.depth.log() - depth.log()).abs().mean()
        if output.viewmats is not None:
            loss = loss + 0.1 * (output.viewmats - batch.cameras.viewmats).abs().mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        rendered = render_view(run_network(network, batch).gaussians, everything, 3)
    photo = everything.images[0, 3]
    copied = max(psnr(image, photo) for image in batch.images[0])
    # Rounding, which differs between processors, moves `epipolar` by 0.4 dB to both sides.
    margin = 0.5 if name == "epipolar" else 1.2
    assert psnr(rendered.clamp(0, 1), photo) > copied + margin


def test_gs_lrm_paper_size_has_about_300_million_parameters() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in GsLrmNetwork(SIZES["paper"]).parameters())
    assert count == pytest.approx(300e6, rel=0.02)


@pytest.mark.parametrize(("views", "width", "height"), [(2, 64, 64), (3, 41, 32)])
def test_gs_lrm_flops_match_torchs_counter(
    views: int, width: int, height: int, generator: torch.Generator
) -> None:
    network: Any = tiny("gs-lrm")
    batch = random_batch(generator, 1, views, width, height)
    # Torch counts the plain attention kernel, not the fused one for CPUs.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        network(batch)
    assert network.flops(views, height, width) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_gs_lrm_paper_size_runs_on_a_cpu(generator: torch.Generator) -> None:
    """With two of its equal layers, whose initial weights take most of the time."""
    network = GsLrmNetwork(replace(SIZES["paper"], layers=2)).eval()
    with torch.no_grad():
        output = run_network(network, random_batch(generator, 1, 2, 256, 256))
    assert output.gaussians.means.shape == (1, 2 * 256 * 256, 3)
    assert bool(torch.isfinite(output.gaussians.means).all())


def test_gs_lrm_initial_scales_are_the_papers() -> None:
    """exp(-2.3) = 0.1 at raw 0, never above 0.3; opacity sigmoid(-2)."""
    head = SIZES["paper"].head
    batch = random_batch(torch.Generator().manual_seed(0), 1, 1, 8, 8)
    raw = torch.zeros(1, 1, 8, 8, head.channels)
    gaussians = activate(raw, batch, head).gaussians
    assert torch.allclose(gaussians.scales, torch.tensor(2.718281828).pow(-2.3), rtol=1e-5)
    assert torch.allclose(gaussians.opacities, torch.sigmoid(torch.tensor(-2.0)))
    assert float(activate(raw + 9, batch, head).gaussians.scales.max()) == pytest.approx(0.3)
    ours = activate(torch.zeros(1, 1, 8, 8, 12), batch, GaussianHeadConfig())
    half = activate(torch.zeros(1, 1, 8, 8, 12), batch, GaussianHeadConfig(), opacity_weight=0.5)
    through = (1 - half.gaussians.opacities).square()
    assert torch.allclose(through, 1 - ours.gaussians.opacities, atol=1e-6)
    focal = batch.cameras.Ks[0, 0, :2, :2].diagonal().mean()
    one_pixel = (ours.depth.flatten() / focal)[:, None].expand(-1, 3)
    assert torch.allclose(ours.gaussians.scales[0], one_pixel, rtol=1e-3)


def test_missing_attention_backend_is_an_error() -> None:
    q = torch.randn(1, 2, 5, 8)
    with pytest.raises(ReconError, match="attention 'xformers' needs a CUDA GPU"):
        attend(q, q, q, "xformers")


def reference_of_xformers(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """What xformers documents that memory_efficient_attention computes: axes b n h d."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    weights = (q / q.shape[-1] ** 0.5 @ k.transpose(-2, -1)).softmax(-1)
    return (weights @ v).transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_ways_of_attention_agree(
    dtype: torch.dtype, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """xformers by its reference, torch's FlashAttention, and auto, on a CPU."""
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator).to(dtype) for n in (17, 29, 29))
    with sdpa_kernel(SDPBackend.MATH):
        expected = attend(q.double(), k.double(), v.double(), "sdpa")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        found = {"flash": attend(q, k, v, "sdpa"), "auto": attend(q, k, v, "auto")}
    monkeypatch.setattr(attention, "_efficient_attention", lambda: reference_of_xformers)
    found["xformers"] = attention.attend_by_xformers(q, k, v)
    assert torch.equal(attend(q, k, v, "auto"), found["auto"])  # no GPU, no xformers
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for name, values in found.items():
        assert values.shape == (2, 3, 17, 8) and values.dtype == dtype, name
        assert torch.allclose(values.double(), expected, atol=tolerance), name
