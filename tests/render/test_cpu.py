"""The CPU kernel's behaviour: bad values, threads, processes, contributions, errors."""

import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
import torch
from agreement import crop_of_s1
from helpers import look_at_cameras, random_gaussians
from memory import in_fresh_process, peak_bytes

from render import Cameras, Gaussians, RasterizeSettings, measure_contributions, rasterize
from render.backends import native


@pytest.fixture()
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def render_and_differentiate(scene: Gaussians, cameras: Cameras) -> list[torch.Tensor]:
    leaves = {f.name: getattr(scene, f.name).clone().requires_grad_() for f in fields(scene)}
    viewmats = cameras.viewmats.clone().requires_grad_()
    settings = RasterizeSettings(absgrad=True)
    output = rasterize(Gaussians(**leaves), replace(cameras, viewmats=viewmats), settings=settings)
    rendered = torch.cat([output.rgb, output.depth, output.alpha], -3)
    (rendered * torch.linspace(-1, 1, rendered.numel()).view_as(rendered)).sum().backward()
    gradients = [t.grad for t in (*leaves.values(), viewmats)]
    return [rendered.detach(), output.absgrad, *gradients]


def test_bit_identical_for_any_number_of_threads(restore_threads: None) -> None:
    # Large enough for several chunks, bins and tiles.
    scene, cameras = crop_of_s1(2)
    cameras = replace(
        cameras, viewmats=cameras.viewmats.repeat(3, 1, 1), Ks=cameras.Ks.repeat(3, 1, 1)
    )
    results = []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        results.append(render_and_differentiate(scene, cameras))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_nan_gaussians_are_dropped_and_counted(generator: torch.Generator) -> None:
    cameras = look_at_cameras(2).to(torch.float32)
    good = random_gaussians(30, generator, 1).to(torch.float32)
    clean = rasterize(good, cameras)
    assert clean.nonfinite.tolist() == [0, 0]
    broken = []
    for f in fields(Gaussians):
        for value in (float("nan"), float("inf")):
            one = good[torch.tensor([3])]
            values = getattr(one, f.name).clone()
            values.view(-1)[0] = value
            broken.append(replace(one, **{f.name: values}))
    both = Gaussians.cat([*broken[:4], good, *broken[4:]])
    for backend in ("cpu", "reference"):
        leaves = {f.name: getattr(both, f.name).clone().requires_grad_() for f in fields(both)}
        output = rasterize(Gaussians(**leaves), cameras, backend=backend)
        assert output.nonfinite.tolist() == [10, 10], backend
        assert torch.allclose(output.rgb, clean.rgb, atol=1e-6)
        output.rgb.sum().backward()
        for name, tensor in leaves.items():
            assert bool(torch.isfinite(tensor.grad).all()), (backend, name)
    with pytest.raises(ValueError, match="10 Gaussians have NaN or infinite"):
        rasterize(both, cameras, settings=RasterizeSettings(require_finite=True))


def test_values_that_overflow_are_dropped_and_counted(generator: torch.Generator) -> None:
    cameras = look_at_cameras(1).to(torch.float32)
    scene = random_gaussians(20, generator).to(torch.float32)
    giant = replace(scene[torch.tensor([0])], scales=torch.full((1, 3), 1e25))
    both = Gaussians.cat([scene, giant])
    for backend in ("cpu", "reference"):
        leaves = both.map(lambda tensor: tensor.clone().requires_grad_())
        output = rasterize(leaves, cameras, backend=backend)
        assert output.nonfinite.tolist() == [1], backend
        assert torch.equal(output.rgb, rasterize(scene, cameras, backend=backend).rgb)
        output.rgb.sum().backward()
        assert all(bool(torch.isfinite(leaf.grad).all()) for leaf in vars(leaves).values())


def test_contributions_are_the_weights(generator: torch.Generator) -> None:
    """Compare with the reference, with one channel for each Gaussian: its weight in each pixel."""
    scene, cameras = random_gaussians(25, generator).to(torch.float32), look_at_cameras(2)
    cameras = cameras.to(torch.float32)
    identity = torch.eye(25)
    weights = rasterize(scene, cameras, channels=identity, backend="reference").rgb
    found = measure_contributions(scene, cameras)
    assert torch.allclose(found.weight_sum, weights.sum((0, 2, 3)), rtol=1e-4, atol=1e-4)
    assert torch.allclose(found.weight_max, weights.amax((0, 2, 3)), atol=1e-5)
    hits = (weights > 0).sum((0, 2, 3))
    assert int((found.hits - hits).abs().max()) <= 1 and int(hits.sum()) > 100


def test_contributions_add_up_over_views_and_masks(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(25, generator).to(torch.float32), look_at_cameras(3)
    cameras = cameras.to(torch.float32)
    together = measure_contributions(scene, cameras)
    alone = [measure_contributions(scene, cameras[i]) for i in range(3)]
    assert torch.allclose(together.weight_sum, sum(c.weight_sum for c in alone), rtol=1e-5)
    assert torch.equal(together.weight_max, torch.stack([c.weight_max for c in alone]).amax(0))
    assert torch.equal(together.hits, sum(c.hits for c in alone))
    nothing = measure_contributions(scene, cameras, mask=torch.zeros(25, dtype=torch.bool))
    assert int(nothing.hits.sum()) == 0


def test_gradients_twice_from_one_graph(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(20, generator).to(torch.float32), look_at_cameras(1)
    means = scene.means.clone().requires_grad_()
    rgb = rasterize(replace(scene, means=means), cameras.to(torch.float32)).rgb
    first = torch.autograd.grad(rgb.sum(), means, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(rgb.sum(), means)[0])


def _peaks_of_rounds() -> list[int]:
    """Return peak memory after each of four rounds, and after one that frees nothing."""
    scene, cameras = crop_of_s1(0)
    means = scene.means.clone().requires_grad_()
    peaks = []
    for free in (True, True, True, True, False):
        if not free:
            native.load_library().recon_cpu_free = lambda _: None
        for _ in range(60):
            rgb = rasterize(replace(scene, means=means), cameras).rgb
            rasterize(scene, cameras)
        torch.autograd.grad(rgb.sum(), means)
        peaks.append(peak_bytes())
    return peaks


def test_memory_is_released() -> None:
    """With and without a backward pass, and when the graph is dropped unused."""
    _, second, _, fourth, leaking = in_fresh_process(_peaks_of_rounds)
    # The first round warms up. Measured: 0.2 MB, and 42 MB by the control, which frees nothing.
    assert fourth - second < 10e6 and leaking - fourth > 20e6


def _render_in_child(queue: multiprocessing.Queue, scene: Gaussians, cameras: Cameras) -> None:
    queue.put(rasterize(scene, cameras).rgb.sum().item())


def test_works_after_a_fork(restore_threads: None) -> None:
    """Data loaders fork: the child must not wait for threads that stayed behind."""
    torch.set_num_threads(2)
    scene, cameras = crop_of_s1(0)
    expected = rasterize(scene, cameras).rgb.sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_render_in_child, args=(queue, scene, cameras), daemon=True)
    child.start()
    assert queue.get(timeout=300) == pytest.approx(expected)
    child.join()


def test_two_threads_of_python_at_once() -> None:
    scene, cameras = crop_of_s1(1)
    expected = rasterize(scene, cameras).rgb
    found: list[torch.Tensor] = []

    def work() -> None:
        found.extend(rasterize(scene, cameras).rgb for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and all(torch.equal(expected, rgb) for rgb in found)
