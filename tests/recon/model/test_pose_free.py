"""The network `pose-free`: which poses it may use, the frame of its result, and learning."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import random_sim3
from network_helpers import moved, random_batch, sample_batch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recon.model.api import ViewBatch
from recon.model.inference import run_network
from recon.model.networks.pose_free import SIZES, PoseFreeNetwork, first_frame, without_poses
from render import rasterize
from training.data.types import Batch
from training.losses import LossConfig, LossInputs, configured_losses, evaluate_losses

TINY = SIZES["tiny"]


@pytest.fixture()
def network() -> PoseFreeNetwork:
    torch.manual_seed(0)
    made = PoseFreeNetwork(TINY)
    with torch.no_grad():  # initial weights hardly depend on the input
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return made.eval()


def with_other_poses(batch: ViewBatch, generator: torch.Generator) -> ViewBatch:
    """Move all cameras but the first, each on its own."""
    viewmats = batch.cameras.viewmats.clone()
    for view in range(1, viewmats.shape[1]):
        transform = random_sim3(generator, torch.float32)
        viewmats[:, view, :3, :3] = viewmats[:, view, :3, :3] @ transform.rotmat
        viewmats[:, view, :3, 3] += transform.translation
    return replace(batch, cameras=replace(batch.cameras, viewmats=viewmats))


def test_poses_of_other_views_have_no_influence(
    network: PoseFreeNetwork, generator: torch.Generator
) -> None:
    batch = random_batch(generator, 2, 3, 32, 24)
    with torch.no_grad():
        plain = run_network(network, batch)
        other = run_network(network, with_other_poses(batch, generator))
    for part in ("means", "scales", "opacities", "sh"):
        a, b = getattr(plain.gaussians, part), getattr(other.gaussians, part)
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3), part
    assert torch.allclose(plain.gaussians.covars(), other.gaussians.covars(), rtol=1e-2, atol=1e-4)
    assert torch.allclose(plain.depth, other.depth, rtol=1e-3)


def test_the_result_is_in_the_first_cameras_frame(
    network: PoseFreeNetwork, generator: torch.Generator
) -> None:
    """Given poses that are all the identity, the same scene in the axes of the first camera."""
    batch = random_batch(generator, 1, 3, 32, 24)
    with torch.no_grad():
        posed = run_network(network, batch).gaussians
        unposed = run_network(network, without_poses(batch)).gaussians
    viewmat = batch.cameras.viewmats[0, 0]
    means = posed.means[0] @ viewmat[:3, :3].mT + viewmat[:3, 3]
    assert torch.allclose(means, unposed.means[0], atol=2e-3)
    axes = viewmat[:3, :3]
    assert torch.allclose(axes @ posed.covars()[0] @ axes.mT, unposed.covars()[0], atol=1e-4)
    assert float(unposed.means[..., 2].median()) > float(batch.near[0, 0])  # in front of it


def test_the_first_frame_is_that_of_the_camera(generator: torch.Generator) -> None:
    batch = random_batch(generator, 2, 3, 16, 16)
    transform = random_sim3(generator, torch.float32)
    found = first_frame(moved(batch, transform)).apply(moved(batch, transform))
    assert torch.allclose(found.cameras.viewmats[:, 0], torch.eye(4).expand(2, 4, 4), atol=1e-4)
    assert torch.allclose(found.middle_depth[:, 0], torch.ones(2), rtol=1e-5)


def test_intrinsics_and_the_first_view_matter(
    network: PoseFreeNetwork, generator: torch.Generator
) -> None:
    batch = random_batch(generator, 1, 2, 32, 24)
    Ks = batch.cameras.Ks.clone()
    Ks[:, 1, [0, 1], [0, 1]] *= 1.3
    with torch.no_grad():
        plain = run_network(network, batch).depth
        zoomed = run_network(network, replace(batch, cameras=replace(batch.cameras, Ks=Ks))).depth
        swapped = run_network(network, batch[[1, 0]]).depth
    assert float((plain[:, 0] - zoomed[:, 0]).abs().max()) > 1e-4
    assert float((plain - swapped[:, [1, 0]]).abs().max()) > 1e-4


@pytest.mark.parametrize(("views", "width", "height"), [(1, 32, 32), (3, 41, 32)])
def test_operations_match_torchs_counter(
    views: int, width: int, height: int, generator: torch.Generator
) -> None:
    network: Any = PoseFreeNetwork(TINY)
    batch = random_batch(generator, 1, views, width, height)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(batch)
    assert network.flops(views, height, width) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_it_learns_the_scene_and_the_poses() -> None:
    """Losses of renders from all views, and of the predicted poses; only the first is an input."""
    batch = sample_batch([2, 3, 5], 32, 32)
    depth = torch.full((1, 3, 32, 32), torch.nan)
    torch.manual_seed(0)
    network = PoseFreeNetwork(TINY)
    adam = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.9, 0.95))
    losses = configured_losses(LossConfig(depth=0.0, pose=0.1))
    step_batch = Batch(batch, batch.cameras, batch.images, depth)
    history = []
    for _ in range(40):
        output = run_network(network, batch)
        rendered = rasterize(output.gaussians, batch.cameras)
        found = evaluate_losses(losses, LossInputs(output, rendered, step_batch))
        history.append([float(found[name].detach()) for name in ("mse", "pose")])
        adam.zero_grad()
        found["total"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
    assert history[-1][0] < 0.5 * history[0][0], history
    assert history[-1][1] < 0.5 * history[0][1], history


def test_predicted_poses_are_in_the_frame_of_the_cameras(
    network: PoseFreeNetwork, generator: torch.Generator
) -> None:
    """The first is as given, and points of a view lie on the rays of its predicted camera."""
    batch = random_batch(generator, 2, 3, 32, 24)
    with torch.no_grad():
        output = run_network(network, batch)
    viewmats = output.viewmats
    assert viewmats is not None
    assert torch.allclose(viewmats[:, 0], batch.cameras.viewmats[:, 0], atol=1e-4)
    assert not torch.allclose(viewmats[:, 1:], batch.cameras.viewmats[:, 1:], atol=0.1)
    origins, directions = replace(batch.cameras, viewmats=viewmats).rays()
    points = origins + output.depth[..., None] * directions
    means = output.gaussians.means
    assert torch.allclose(points.flatten(1, 3), means, rtol=1e-3, atol=1e-3)
