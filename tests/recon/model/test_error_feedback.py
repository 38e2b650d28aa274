"""Correction of Gaussians by the errors of their renders."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from network_helpers import random_batch

from recon.errors import ConfigError
from recon.model.api import ViewBatch
from recon.model.checkpoint import save_checkpoint
from recon.model.error_feedback import ErrorFeedback, render_errors
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.networks.cost_volume import SIZES, CostVolumeNetwork
from render import rasterize
from training.config import TrainConfig
from training.network import load_initial_weights

HEAD = GaussianHeadConfig(scale_min_px=0.5)
VIEWS, HEIGHT, WIDTH = 2, 18, 26


@pytest.fixture
def batch(generator: torch.Generator) -> ViewBatch:
    return random_batch(generator, 1, VIEWS, WIDTH, HEIGHT)


@pytest.fixture
def raw(generator: torch.Generator) -> torch.Tensor:
    return 0.5 * torch.randn(1, VIEWS, HEIGHT, WIDTH, HEAD.channels, generator=generator)


def squared_error(raw: torch.Tensor, batch: ViewBatch, weight: torch.Tensor) -> torch.Tensor:
    output = activate(raw, batch, HEAD, weight)
    rendered = rasterize(output.gaussians, batch.cameras).rgb
    return 0.5 * (rendered - batch.images).square().sum()


def test_gradient_is_that_of_the_squared_error(batch: ViewBatch, raw: torch.Tensor) -> None:
    weight = torch.full(raw.shape[:-1], 0.7)
    leaf = raw.clone().requires_grad_()
    squared_error(leaf, batch, weight).backward()
    with torch.no_grad():
        found = render_errors(raw, batch, HEAD, weight)
    assert leaf.grad is not None
    expected = leaf.grad.flatten(0, 1).movedim(-1, 1)
    assert torch.allclose(found.gradient, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
    assert not found.gradient.requires_grad and not found.image.requires_grad


def test_learns_to_reduce_the_error(
    batch: ViewBatch, raw: torch.Tensor, generator: torch.Generator
) -> None:
    """Its first steps on one scene also reduce the error of a scene that it never saw."""
    torch.manual_seed(0)
    feedback, weight = ErrorFeedback(HEAD, 8), torch.ones(raw.shape[:-1])
    context = torch.zeros(VIEWS, 8, HEIGHT // 2, WIDTH // 2)
    optimiser = torch.optim.AdamW(feedback.parameters(), lr=3e-3)
    for _ in range(25):
        corrected = feedback(raw, batch, weight, context, rounds=2)
        optimiser.zero_grad()
        sum(squared_error(each, batch, weight) for each in corrected).backward()
        optimiser.step()
    other = random_batch(generator, 1, VIEWS, WIDTH, HEIGHT)
    start = 0.5 * torch.randn(raw.shape, generator=generator)
    with torch.no_grad():
        corrected = feedback(start, other, weight, context, rounds=2)
        before, after, last = (squared_error(r, other, weight) for r in (start, *corrected))
    assert last < after < 0.97 * before


def test_number_of_rounds_is_free_and_starts_at_the_prediction(
    batch: ViewBatch, raw: torch.Tensor
) -> None:
    feedback = ErrorFeedback(HEAD, 8)
    context = torch.zeros(VIEWS, 8, 16, 16)
    for rounds in (0, 1, 3):
        corrected = feedback(raw, batch, torch.ones(raw.shape[:-1]), context, rounds)
        assert len(corrected) == rounds
        assert all(torch.equal(each, raw) for each in corrected)  # its last layer starts at zero


def test_entry_sees_all_pixels_of_a_cell(generator: torch.Generator) -> None:
    """The weights of the file are those of a 1x1 convolution of rearranged pixels."""
    feedback = ErrorFeedback(HEAD, 8)
    inputs = torch.randn(2, feedback.enter.in_channels // 4, 8, 12, generator=generator)
    expected = feedback.enter(torch.nn.functional.pixel_unshuffle(inputs, 2))
    assert torch.allclose(feedback._entered(inputs), expected, atol=1e-5)


def test_earlier_gaussians_are_returned_for_the_loss(generator: torch.Generator) -> None:
    network = CostVolumeNetwork(replace(SIZES["tiny"], feedback_rounds=2))
    output = network(random_batch(generator, 1, 2, 24, 16))
    assert len(output.intermediate_gaussians) == 2
    assert output.intermediate_gaussians[0].means.requires_grad


def test_training_adds_it_to_a_network_without(tmp_path: Path) -> None:
    without = CostVolumeNetwork(replace(SIZES["tiny"], feedback_rounds=0))
    save_checkpoint(tmp_path / "without.safetensors", "cost-volume", without, {})
    network = CostVolumeNetwork(SIZES["tiny"])
    fresh = network.feedback.enter.weight.clone()
    load_initial_weights(network, TrainConfig(init=str(tmp_path / "without.safetensors")))
    own = network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in without.state_dict().items())
    assert torch.equal(network.feedback.enter.weight, fresh)
    deeper = CostVolumeNetwork(
        replace(SIZES["tiny"], pyramid=replace(SIZES["tiny"].pyramid, layers=3))
    )
    with pytest.raises(ConfigError, match="shape differs"):
        load_initial_weights(deeper, TrainConfig(init=str(tmp_path / "without.safetensors")))
