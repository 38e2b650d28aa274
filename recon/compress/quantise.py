"""Coarser numbers, as coarse as the pictures allow: formats that pack well make them small."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.compress.looks import Looks
from recon.formats import encodings
from render import Gaussians


@dataclass(frozen=True)
class Steps:
    """Distance of neighbouring values of an attribute; 0 leaves them as they are."""

    color: float = 0.0
    """Of f_dc."""
    scale: float = 0.0
    """Of the logarithm of scales."""
    quat: float = 0.0
    """Of the three smaller components of quaternions."""
    opacity: float = 0.0
    sh: float = 0.0
    """Of the higher spherical harmonics."""
    dropped_bits: int = 0
    """Binary digits of positions that are left out of what the format keeps."""

    def times(self, factor: float) -> "Steps":
        """Coarser by a factor, but for positions."""
        return replace(self, **{name: factor * getattr(self, name) for name in NUMBERS})


# Numbers of a Gaussian. Errors are shared out among attributes by them: they grow with the square
# of a step, so this is the least size for a loss (reverse water-filling; Cover and Thomas, section
# 10.3.3).
NUMBERS = {"color": 3, "scale": 3, "quat": 3, "opacity": 1, "sh": 3}
POSITION_NUMBERS = 3
# Where the search for a step starts, and the largest that it may find.
FIRST = {"color": 0.05, "scale": 0.1, "quat": 0.02, "opacity": 0.02, "sh": 0.05}
LARGEST = {"color": 0.5, "scale": 0.7, "quat": 0.2, "opacity": 0.2, "sh": 0.5}
SMALLEST_PART = 1 / 64
ROUNDS = 3
MAX_DROPPED_BITS = 8


def quantise(scene: Gaussians, steps: Steps) -> Gaussians:
    """The scene with fewer different values; positions are left to the format."""
    sh = torch.cat([_even(scene.sh[:, :1], steps.color), _even(scene.sh[:, 1:], steps.sh)], 1)
    return Gaussians(
        means=scene.means,
        quats=_even_quats(scene.quats, steps.quat),
        scales=_even(scene.scales.clamp_min(1e-30).log(), steps.scale).exp(),
        opacities=_even(scene.opacities, steps.opacity).clamp(0, 1),
        sh=sh,
    )


def _even(values: Tensor, step: float) -> Tensor:
    return values if step == 0 else (values / step).round() * step


def _even_quats(quats: Tensor, step: float) -> Tensor:
    if step == 0:
        return quats
    largest, three = encodings.encode_smallest_three(quats.numpy())
    even = np.round(three / step) * np.float32(step)
    return torch.from_numpy(encodings.decode_smallest_three(largest, even))


def find_steps(
    scene: Gaussians, looks: Looks, loss_db: float, stored: Callable[[Gaussians, int], Gaussians]
) -> Steps:
    """The largest steps that lose about so much together, beside what the scene has lost already.
    `stored` gives back what the format keeps of a scene with so many binary digits of positions
    left out."""
    numbers = {name: n for name, n in NUMBERS.items() if name != "sh" or scene.sh_degree}
    already = looks.loss_db(scene)
    share = loss_db / (POSITION_NUMBERS + sum(numbers.values()))
    found: dict[str, Any] = {
        name: _find(scene, looks, name, already, share * n) for name, n in numbers.items()
    }
    # Palettes of harmonics take long to make and say nothing about positions.
    plain = scene.cut_sh(0)
    limit = looks.loss_db(stored(plain, 0)) + POSITION_NUMBERS * share
    return Steps(**found, dropped_bits=_find_dropped(plain, looks, limit, stored))


def _find(scene: Gaussians, looks: Looks, name: str, already: float, loss_db: float) -> float:
    """The step of one attribute."""
    first, largest = FIRST[name], LARGEST[name]
    step, best = first, SMALLEST_PART * first
    for _ in range(ROUNDS):
        lost = looks.loss_db(quantise(scene, _only(name, step))) - already
        if lost <= loss_db:
            best = max(best, step)
        # Losses this small grow with the square of the step; the next one is to be just below.
        step *= 0.95 * math.sqrt(loss_db / max(lost, 1e-9))
        step = min(max(step, SMALLEST_PART * first), largest)
    return best


def _only(name: str, step: float) -> Steps:
    values: dict[str, Any] = {name: step}
    return Steps(**values)


def _find_dropped(
    scene: Gaussians, looks: Looks, limit_db: float, stored: Callable[[Gaussians, int], Gaussians]
) -> int:
    low, high = 0, MAX_DROPPED_BITS
    while low < high:
        middle = (low + high + 1) // 2
        if looks.loss_db(stored(scene, middle)) <= limit_db:
            low = middle
        else:
            high = middle - 1
    return low
