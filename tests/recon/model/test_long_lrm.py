"""Cost that is linear in the number of views, tokens that are merged and split, anchor views."""

from dataclasses import replace

import pytest
import torch
from network_helpers import random_batch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recon.model.inference import run_network
from recon.model.layers.long_sequence import (
    LinearAttention,
    MergeTokens,
    SplitTokens,
    anchor_views,
)
from recon.model.networks.long_lrm import SIZES, LongLrmNetwork

TINY = SIZES["tiny"]
ANCHORED = replace(TINY, anchors=2)


@pytest.mark.parametrize("config", [TINY, ANCHORED])
@pytest.mark.parametrize(("views", "width", "height"), [(1, 32, 32), (3, 41, 32), (5, 16, 32)])
def test_flops_match_torchs_counter(
    config, views: int, width: int, height: int, generator: torch.Generator
) -> None:
    network = LongLrmNetwork(config)
    batch = random_batch(generator, 1, views, width, height)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(batch)
    assert network.flops(views, height, width) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("config", [TINY, ANCHORED, SIZES["base"]])
def test_cost_is_linear_in_the_number_of_views(config) -> None:
    with torch.device("meta"):
        network = LongLrmNetwork(config)
    costs = [network.flops(views, 256, 256) for views in (16, 32, 64)]
    assert costs[2] - costs[1] == pytest.approx(2 * (costs[1] - costs[0]), rel=1e-9)
    assert costs[2] <= 2 * costs[1]


def test_linear_attention_is_that_of_its_equation(generator: torch.Generator) -> None:
    """Shen et al. 2021, eq. 4, with all pairs of tokens written out."""
    layer = LinearAttention(8, 2)
    tokens = torch.randn(1, 6, 8, generator=generator)
    q, k, v = layer.qkv(tokens)[0].unflatten(-1, (3, 2, 4)).permute(1, 2, 0, 3)
    weights = torch.einsum("hnd,hmd->hnm", q.softmax(-1), k.softmax(-2))
    assert torch.allclose(weights.sum(-1), torch.ones(2, 6), atol=1e-5)
    read = layer.norm(weights @ v).transpose(0, 1).flatten(1)
    assert torch.allclose(layer(tokens)[0], layer.out(read), atol=1e-5)


def test_neighbouring_tokens_are_merged_and_split() -> None:
    """A change of one token changes only its merged token, which changes its 2x2 tokens."""
    merge, split = MergeTokens(4, 6), SplitTokens(6, 4)
    grid = torch.randn(1, 4, 6, 4)
    other = grid.clone()
    other[0, 2, 3] += 1
    one, two = (merge(each.flatten(1, 2), 4) for each in (grid, other))
    changed = (one != two).any(-1)[0].view(2, 3)
    assert changed.nonzero().tolist() == [[1, 1]]
    one, two = (split(each, 4) for each in (one, two))
    changed = (one != two).any(-1)[0].view(4, 6)
    assert changed.nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_anchors_are_far_from_each_other() -> None:
    positions = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0], [4.9, 0, 0], [0, 9, 0]]])
    chosen, nearest = anchor_views(positions, 3)
    assert chosen.tolist() == [[0, 4, 2]] and nearest.tolist() == [[0, 0, 2, 2, 1]]
    chosen, nearest = anchor_views(torch.zeros(1, 3, 3), 5)
    assert sorted(chosen[0].tolist()) == [0, 1, 2]
    assert chosen[0][nearest[0]].tolist() == [0, 1, 2]


def test_every_view_reaches_every_other_through_the_anchors(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    network = LongLrmNetwork(ANCHORED)
    batch = random_batch(generator, 1, 4, 32, 16)
    output = run_network(network, batch)
    assert output.depth.shape == (1, 4, 16, 32)
    output.depth.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    batch.images.requires_grad_(True)
    for view in range(4):
        (slope,) = torch.autograd.grad(
            run_network(network, batch).depth[0, view].sum(), batch.images
        )
        assert bool((slope[0].abs().amax((1, 2, 3)) > 0).all())
