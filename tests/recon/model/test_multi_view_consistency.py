"""Votes: what other views say of points on, before and behind the surface they believe in."""

import pytest
import torch
from network_helpers import sample_batch, sample_depth

from recon.model.networks.cost_volume.depth_distribution import Belief
from recon.model.networks.cost_volume.multi_view_consistency import ALONE, VOTES, Poll, share_of
from render import Cameras

MEAN, BEST, FRONT, FINER, COUNT = range(VOTES)
VIEWS = [2, 4, 6]


def exact_poll(confidence: float = 1.0) -> tuple[Poll, torch.Tensor]:
    """A poll among views that know the depth of the sample scene, and that disparity."""
    batch = sample_batch(VIEWS, 64, 64)
    disparity = 1 / sample_depth(VIEWS)
    assert disparity.shape == (1, 3, 64, 64)
    low, high = torch.full((3,), 0.02), torch.full((3,), 1.0)
    fraction = (disparity[0] - 0.02) / 0.98
    belief = Belief(
        fraction, torch.full_like(fraction, 0.01), torch.full_like(fraction, confidence)
    )
    sources = torch.tensor([[1, 2], [0, 2], [0, 1]])
    return Poll(belief, low, high, batch.cameras.flatten(), sources), disparity[0]


def test_points_on_before_and_behind_the_surface() -> None:
    poll, disparity = exact_poll()
    steps = torch.tensor([-0.15, 0.0, 0.15])[:, None, None]
    votes = poll.votes(torch.tensor([1]), (disparity[1] + steps)[None])[0]
    assert votes.shape == (VOTES, 3, 64, 64)
    behind, on, before = votes.mean((-1, -2)).unbind(1)
    assert float(on[BEST]) > 0.8 and float(on[FRONT]) < 0.15
    assert float(before[FRONT]) > 0.6 and float(before[BEST]) < 0.2
    assert float(behind[FRONT]) < 0.1 and float(behind[MEAN]) < 0.3
    assert bool((votes[MEAN] <= votes[BEST] + 1e-6).all())
    assert bool((votes[FINER] <= votes[BEST] + 1e-6).all())
    assert set(votes[COUNT].unique().tolist()) <= {0.0, 0.25, 0.5}


def test_who_is_not_sure_does_not_accuse() -> None:
    sure, disparity = exact_poll()
    unsure, _ = exact_poll(confidence=0.1)
    before = (disparity[1] + 0.15)[None, None]
    accused, spared = (poll.votes(torch.tensor([1]), before)[0, FRONT] for poll in (sure, unsure))
    assert torch.allclose(spared, 0.1 * accused, atol=1e-5)


def test_the_nearer_view_sees_finer() -> None:
    """Two cameras on one axis, a wall before them: only the far one has a finer rival."""
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 2, 3] = 1.0  # one unit farther back
    K = torch.tensor([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]])
    cameras = Cameras(viewmats, K.expand(2, 3, 3), 32, 32)
    depth = torch.tensor([2.0, 3.0])
    fraction = (1 / depth)[:, None, None].expand(2, 32, 32)
    ones = torch.ones(2, 32, 32)
    belief = Belief(fraction, 0.01 * ones, ones)
    poll = Poll(belief, torch.zeros(2), torch.ones(2), cameras, torch.tensor([[1], [0]]))
    votes = poll.votes(torch.arange(2), fraction[:, None])[:, :, 0]
    middle = votes[..., 8:24, 8:24]
    assert torch.allclose(middle[:, BEST], torch.ones(2, 16, 16), atol=1e-4)
    assert bool((middle[0, FINER] == 0).all()) and bool((middle[1, FINER] > 0.99).all())


def test_a_view_alone_hears_nothing() -> None:
    poll, disparity = exact_poll()
    alone = Poll(poll.belief, poll.low, poll.high, poll.cameras, poll.sources[:, :0])
    assert not bool(alone.votes(torch.arange(3), disparity[:, None]).any())


def test_views_share_what_they_absorb() -> None:
    """Alone all of it; among two that agree half; less for one that only looks there."""
    votes = torch.zeros(3, VOTES, 1, 1)
    votes[1, MEAN], votes[1, COUNT] = 1.0, 0.25
    votes[2, COUNT] = 0.25
    shares = (share_of(votes) / ALONE).flatten().tolist()
    assert shares == pytest.approx([1.0, 0.5, 1 / 1.5])
