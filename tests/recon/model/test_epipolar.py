"""Parts of the network `epipolar`: sampled depths, gradients through them, attention."""

import pytest
import torch
from network_helpers import sample_batch, sample_depth

from recon.model.heads import GaussianHeadConfig
from recon.model.inference import run_network
from recon.model.mvs.source_views import batch_sources
from recon.model.networks.epipolar import SIZES, EpipolarConfig, EpipolarNetwork
from recon.model.networks.epipolar.attention import (
    OCTAVES,
    EpipolarAttention,
    EpipolarLines,
    depth_encoding,
)
from recon.model.networks.epipolar.depth import (
    mean_fraction,
    opacity_from_probability,
    sample_buckets,
)


def test_likeliest_buckets_outside_training() -> None:
    scores = torch.tensor([[0.0, 3.0, 2.0, -1.0]])
    offsets = torch.tensor([[0.0, 0.0, 50.0, 0.0]])
    samples = sample_buckets(scores, offsets, 2, 1.0, random=False)
    assert samples.fraction.tolist() == [pytest.approx([1.5 / 4, 3 / 4])]
    probability = scores.softmax(-1)[0, [1, 2]]
    assert torch.allclose(1 - (1 - samples.opacity[0]) ** 2, probability, atol=1e-5)


def test_samples_follow_the_probabilities() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20_000, 4)
    samples = sample_buckets(scores, torch.zeros(20_000, 4), 1, 1.0, random=True)
    counts = torch.bincount((samples.fraction[:, 0] * 4).floor().long(), minlength=4) / 20_000
    assert torch.allclose(counts, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.015)


def test_rewarded_bucket_becomes_likelier() -> None:
    """A reward for the opacity of bucket 2 raises its score and no other."""
    torch.manual_seed(0)
    scores = torch.zeros(500, 4, requires_grad=True)
    samples = sample_buckets(scores, torch.zeros(500, 4), 1, 8.0, random=True)
    hit = (samples.fraction * 4).floor() == 2
    (samples.opacity * hit).sum().backward()
    assert scores.grad is not None
    gain = scores.grad.sum(0)
    assert float(gain[2]) > 0 and bool((gain[[0, 1, 3]] < 0).all())


def test_opacity_of_probability() -> None:
    p = torch.linspace(0.01, 0.99, 50)
    assert torch.allclose(opacity_from_probability(p, 1.0), p, atol=1e-5)
    full = opacity_from_probability(p, 8.0)
    assert bool((full > p).all()) and bool((full.diff() > 0).all()) and float(full.max()) < 1


def test_mean_fraction_is_the_mean_of_the_distribution() -> None:
    scores = torch.tensor([[0.5, 0.5, 1e-9, 1e-9]]).log()
    assert float(mean_fraction(scores, torch.zeros(1, 4))) == pytest.approx(0.25, abs=1e-5)


def test_depth_encoding_distinguishes_points() -> None:
    code = depth_encoding(32)
    assert code.shape == (32, 2 * OCTAVES)
    distance = torch.cdist(code, code) + 10 * torch.eye(32)
    assert float(distance.min()) > 0.05


def test_attention_finds_the_matching_point() -> None:
    """With features that are unique in space, a pixel's best score is at its surface."""
    side, points, width = 32, 48, 24
    batch = sample_batch([2, 4], side, side)
    cameras, exact = batch.cameras.flatten(), sample_depth([2, 4], side, side)[0]
    low, high = 1 / 8.0, 1 / 2.0
    disparity = (low + torch.linspace(0, 1, points) * (high - low)).expand(2, -1)
    lines = EpipolarLines(cameras, batch_sources(batch.cameras, batch.middle_depth, 4), disparity)
    rays_o, rays_d = cameras.rays()
    points_3d = (rays_o + exact[..., None] * rays_d).movedim(-1, 1)
    waves = [wave(f * points_3d) for f in (1, 2, 4, 6) for wave in (torch.sin, torch.cos)]
    features = torch.cat(waves, 1)
    assert features.shape[1] == width
    network = EpipolarAttention(width, 1, points)
    one, other = torch.tensor([0]), torch.tensor([1])
    sampled = network._sample(torch.cat([features, features], 1), lines, one, other)
    query = features[:1].unflatten(1, (1, -1))
    scores = network._scores(query, torch.zeros(1, width, points), [sampled])[0, 0, 1:]
    visible = scores.amax(0) > 0.9 * width / 2  # the product of equal features
    error = (disparity[0][scores.argmax(0)] - 1 / exact[0]).abs()[visible]
    assert int(visible.sum()) > 200
    # A tenth would be by chance.
    assert float((error < 2.5 * (high - low) / points).float().mean()) > 0.6


def test_gaussians_of_a_pixel_have_one_appearance() -> None:
    torch.manual_seed(0)
    network, batch = EpipolarNetwork(SIZES["tiny"]).eval(), sample_batch([2, 4], 32, 32)
    with torch.no_grad():
        gaussians = run_network(network, batch).gaussians
    assert gaussians.means.shape == (1, 2 * 32 * 32 * 3, 3)
    assert gaussians.sh_degree == 1
    quats = gaussians.quats.unflatten(1, (-1, 3))
    assert torch.allclose(quats[:, :, 0], quats[:, :, 2])
    depths = gaussians.means.unflatten(1, (-1, 3))
    assert float((depths[:, :, 0] - depths[:, :, 2]).norm(dim=-1).min()) > 0


def test_samples_differ_only_in_training() -> None:
    network, batch = EpipolarNetwork(SIZES["tiny"]), sample_batch([2, 4], 32, 32)
    with torch.no_grad():
        one, two = (run_network(network, batch).gaussians.means for _ in range(2))
        assert not torch.equal(one, two)
        network.eval()
        one, two = (run_network(network, batch).gaussians.means for _ in range(2))
        assert torch.equal(one, two)


def test_invalid_configurations() -> None:
    with pytest.raises(ValueError, match="head.depth"):
        EpipolarConfig(head=GaussianHeadConfig(depth="linear"))
    with pytest.raises(ValueError, match="gaussians must not exceed buckets"):
        EpipolarConfig(buckets=2)
