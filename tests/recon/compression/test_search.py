"""The root search, and quantisation."""

import math
from pathlib import Path

import pytest
import torch
from helpers import random_gaussians

from recon.compression.encoder import QuantisationSteps, quantise
from recon.compression.search import EVALUATIONS, MET_FRACTION, is_met, search_count
from recon.formats import load_gaussians
from recon.formats.sog import write_sog
from recon.formats.source import SceneSource
from recon.formats.spz import SpzConfig, write_spz
from render import Gaussians


def ignore(done: float) -> None:
    pass


# Losses at 1 and at 10,000 Gaussians bracket every target here: each can be met.
@pytest.mark.parametrize(
    "power, first, target",
    [
        (-1.5, 300, 0.02),
        (-1.5, 300, 0.1),
        (-1.5, 300, 3.0),
        (-0.4, 300, 0.06),
        (-0.4, 300, 0.1),
        (-4.0, 9000, 0.02),
        (-4.0, 9000, 0.1),
        (-4.0, 9000, 3.0),
    ],
)
def test_search_meets_a_loss(power: float, first: int, target: float) -> None:
    def loss(count: int) -> float:
        return 0.1 * (count / 2000) ** power + 0.001

    assert loss(10_000) < MET_FRACTION * target < target < loss(1)
    found = search_count(lambda n: n, loss, target, -1.5, first, 10_000, ignore)
    assert is_met(loss(found[-1]), target)
    assert len(found) <= EVALUATIONS and all(1 <= n <= 10_000 for n in found)


def test_search_ends_when_a_loss_cannot_be_met() -> None:
    def loss(count: int) -> float:
        return 0.1 * (count / 2000) ** -0.4 + 0.001

    assert loss(10_000) > 0.02 and loss(1) < 3.0
    for target, nearest in ((0.02, 10_000), (3.0, 1)):
        found = search_count(lambda n: n, loss, target, -1.5, 300, 10_000, ignore)
        assert len(found) <= EVALUATIONS
        assert found[-1] == pytest.approx(nearest, rel=0.1)


def test_search_meets_a_size() -> None:
    found = search_count(
        lambda n: n, lambda n: 700.0 + 9.3 * n, 50_000.0, 1.0, 9999, 20_000, ignore
    )
    assert is_met(700 + 9.3 * found[-1], 50_000.0)


def test_search_tries_one_gaussian_before_it_gives_up() -> None:
    found = search_count(lambda n: n, lambda n: 500.0 + n, 100.0, 1.0, 50, 1000, ignore)
    assert 1 in found and len(found) <= EVALUATIONS


@pytest.fixture()
def scene() -> Gaussians:
    return random_gaussians(3000, torch.Generator().manual_seed(0), degree=1, dtype=torch.float32)


def test_quantisation_error_is_at_most_half_a_step(scene: Gaussians) -> None:
    steps = QuantisationSteps(color=0.1, scale=0.2, quat=0.05, opacity=0.1, sh=0.2)
    coarse = quantise(scene, steps)
    coarse.validate()
    assert (coarse.sh[:, 0] - scene.sh[:, 0]).abs().max() <= 0.0501
    assert (coarse.sh[:, 1:] - scene.sh[:, 1:]).abs().max() <= 0.1001
    assert (coarse.scales.log() - scene.scales.log()).abs().max() <= 0.1001
    assert (coarse.opacities - scene.opacities).abs().max() <= 0.0501
    cosine = (coarse.quats * scene.quats).sum(-1).abs()
    assert cosine.min() > math.cos(0.1)
    assert torch.equal(coarse.means, scene.means)
    assert coarse.opacities.unique().numel() <= 11
    same = quantise(scene, QuantisationSteps())
    assert torch.allclose(same.scales, scene.scales) and torch.equal(same.sh, scene.sh)


def _distances(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return torch.cdist(one, two, compute_mode="donot_use_mm_for_euclid_dist")


def test_dropped_bits_shrink_files(scene: Gaussians, tmp_path: Path) -> None:
    source, sizes, errors = SceneSource.of(scene), [], []
    for bits in (0, 4, 8):
        for suffix in (".sog", ".spz"):
            path = tmp_path / f"{bits}{suffix}"
            if suffix == ".sog":
                write_sog(path, source, bits)
            else:
                write_spz(path, source, SpzConfig(dropped_bits=bits))
            found = load_gaussians(path).means
            sizes.append(path.stat().st_size)
            errors.append(float(_distances(scene.means, found).min(1).values.max()))
    assert sizes[0] > sizes[2] > sizes[4] and sizes[1] > sizes[3] > sizes[5]
    # A step of 2^-16 of the extent, and of 2^-12, each twice as wide for every bit.
    assert errors[0] < 3e-4 and errors[4] < 256 * 3e-4
    assert errors[1] < 3e-4 and errors[5] < 256 * 3e-4
