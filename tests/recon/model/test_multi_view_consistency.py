"""Consistency channels of points on, in front of and behind the surface that other views see."""

from dataclasses import replace

import pytest
import torch
from network_helpers import sample_batch, sample_depth

from recon.model.networks.cost_volume.depth_distribution import DepthDistribution
from recon.model.networks.cost_volume.multi_view_consistency import (
    NUM_CONSISTENCY_CHANNELS,
    UNSHARED_WEIGHT,
    MultiViewConsistency,
    opacity_weight,
)
from render import Cameras

MEAN, BEST, SEEN_THROUGH, FINER, COUNT = range(NUM_CONSISTENCY_CHANNELS)
VIEWS = [2, 4, 6]


def exact_consistency(confidence: float = 1.0) -> tuple[MultiViewConsistency, torch.Tensor]:
    """Views with the exact depth of the sample scene, and that depth as disparity."""
    batch = sample_batch(VIEWS, 64, 64)
    disparity = 1 / sample_depth(VIEWS)
    assert disparity.shape == (1, 3, 64, 64)
    low, high = torch.full((3,), 0.02), torch.full((3,), 1.0)
    fraction = (disparity[0] - 0.02) / 0.98
    distribution = DepthDistribution(
        fraction, torch.full_like(fraction, 0.01), torch.full_like(fraction, confidence)
    )
    sources = torch.tensor([[1, 2], [0, 2], [0, 1]])
    cameras = batch.cameras.flatten()
    return MultiViewConsistency(distribution, low, high, cameras, sources), disparity[0]


def test_points_on_in_front_of_and_behind_the_surface() -> None:
    consistency, disparity = exact_consistency()
    steps = torch.tensor([-0.15, 0.0, 0.15])[:, None, None]
    channels = consistency.evaluate(torch.tensor([1]), (disparity[1] + steps)[None])[0]
    assert channels.shape == (NUM_CONSISTENCY_CHANNELS, 3, 64, 64)
    behind, on, in_front = channels.mean((-1, -2)).unbind(1)
    assert float(on[BEST]) > 0.8 and float(on[SEEN_THROUGH]) < 0.15
    assert float(in_front[SEEN_THROUGH]) > 0.6 and float(in_front[BEST]) < 0.2
    assert float(behind[SEEN_THROUGH]) < 0.1 and float(behind[MEAN]) < 0.3
    assert bool((channels[MEAN] <= channels[BEST] + 1e-6).all())
    assert bool((channels[FINER] <= channels[BEST] + 1e-6).all())
    assert set(channels[COUNT].unique().tolist()) <= {0.0, 0.25, 0.5}


def test_seeing_through_a_point_is_weighted_by_confidence() -> None:
    confident, disparity = exact_consistency()
    uncertain, _ = exact_consistency(confidence=0.1)
    in_front = (disparity[1] + 0.15)[None, None]
    high, low = (
        consistency.evaluate(torch.tensor([1]), in_front)[0, SEEN_THROUGH]
        for consistency in (confident, uncertain)
    )
    assert torch.allclose(low, 0.1 * high, atol=1e-5)


def test_nearer_view_is_finer() -> None:
    """Of two cameras on one axis in front of a wall, only the far one has a finer source view."""
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 2, 3] = 1.0  # one unit farther back
    K = torch.tensor([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]])
    cameras = Cameras(viewmats, K.expand(2, 3, 3), 32, 32)
    depth = torch.tensor([2.0, 3.0])
    fraction = (1 / depth)[:, None, None].expand(2, 32, 32)
    ones = torch.ones(2, 32, 32)
    distribution = DepthDistribution(fraction, 0.01 * ones, ones)
    sources = torch.tensor([[1], [0]])
    consistency = MultiViewConsistency(
        distribution, torch.zeros(2), torch.ones(2), cameras, sources
    )
    channels = consistency.evaluate(torch.arange(2), fraction[:, None])[:, :, 0]
    middle = channels[..., 8:24, 8:24]
    assert torch.allclose(middle[:, BEST], torch.ones(2, 16, 16), atol=1e-4)
    assert bool((middle[0, FINER] == 0).all()) and bool((middle[1, FINER] > 0.99).all())


def test_views_without_sources_have_zero_consistency() -> None:
    consistency, disparity = exact_consistency()
    alone = replace(consistency, sources=consistency.sources[:, :0])
    assert not bool(alone.evaluate(torch.arange(3), disparity[:, None]).any())


def test_views_divide_the_opacity_of_a_shared_surface() -> None:
    """The weight is full for one view, half for two that agree, less for a view that disagrees."""
    consistency = torch.zeros(3, NUM_CONSISTENCY_CHANNELS, 1, 1)
    consistency[1, MEAN], consistency[1, COUNT] = 1.0, 0.25
    consistency[2, COUNT] = 0.25
    weights = (opacity_weight(consistency) / UNSHARED_WEIGHT).flatten().tolist()
    assert weights == pytest.approx([1.0, 0.5, 1 / 1.5])
