"""Searching for a number of Gaussians, and rounding what they are made of."""

import math
from pathlib import Path

import pytest
import torch
from helpers import random_gaussians

from recon.compress.approach import CLOSE, approach
from recon.compress.quantise import Steps, quantise
from recon.formats import load_gaussians
from recon.formats.sog import write_sog
from recon.formats.source import SceneSource
from recon.formats.spz import SpzConfig, write_spz
from render import Gaussians


@pytest.mark.parametrize("power, start", [(-1.5, 300), (-0.4, 300), (-4.0, 9000)])
@pytest.mark.parametrize("goal", [0.02, 0.1, 3.0])
def test_losses_are_approached(power: float, start: int, goal: float) -> None:
    def loss(count: int) -> float:
        return 0.1 * (count / 2000) ** power + 0.001

    found = approach(lambda n: n, loss, goal, -1.5, start, 10_000, lambda done: None)
    values = [loss(n) for n in found]
    reachable = loss(10_000) <= goal <= loss(1)
    assert len(found) <= 8 and all(1 <= n <= 10_000 for n in found)
    if reachable and loss(10_000) < CLOSE * goal:
        assert any(CLOSE * goal <= value <= goal for value in values)


def test_sizes_are_approached() -> None:
    found = approach(
        lambda n: n, lambda n: 700.0 + 9.3 * n, 50_000.0, 1.0, 9999, 20_000, lambda done: None
    )
    assert CLOSE * 50_000 <= 700 + 9.3 * found[-1] <= 50_000


def test_nothing_fits() -> None:
    found = approach(lambda n: n, lambda n: 500.0 + n, 100.0, 1.0, 50, 1000, lambda done: None)
    assert 1 in found and len(found) <= 8


@pytest.fixture()
def scene() -> Gaussians:
    return random_gaussians(3000, torch.Generator().manual_seed(0), degree=1, dtype=torch.float32)


def test_steps_are_kept(scene: Gaussians) -> None:
    steps = Steps(color=0.1, scale=0.2, quat=0.05, opacity=0.1, sh=0.2)
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
    same = quantise(scene, Steps())
    assert torch.allclose(same.scales, scene.scales) and torch.equal(same.sh, scene.sh)


def _distances(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return torch.cdist(one, two, compute_mode="donot_use_mm_for_euclid_dist")


def test_dropped_bits_make_files_smaller(scene: Gaussians, tmp_path: Path) -> None:
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
