"""Few values that stand for many: codebooks of numbers and palettes of vectors."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

BINS = 1 << 17
ROUNDS = 30


def codebook(values: Float[np.ndarray, "..."], size: int = 256) -> Float[np.ndarray, "s"]:
    """Sorted numbers with the least mean squared distance to the values (Lloyd 1982, on a
    histogram)."""
    flat = np.sort(np.asarray(values, np.float64).ravel())
    if len(flat) == 0:
        return np.zeros(size, np.float32)
    # Equal shares of values in a bin: their mean and number is all that counts.
    edges = np.linspace(0, len(flat), min(BINS, len(flat)) + 1).astype(int)
    weight = np.diff(edges).astype(np.float64)
    mean = np.add.reduceat(flat, edges[:-1]) / weight
    # Half of them at equal shares, half at equal distances: the best ones thin out towards the
    # tails, but not as much as the values do.
    shares = mean[np.linspace(0, len(mean) - 1, size).round().astype(int)]
    spread = np.linspace(mean[0], mean[-1], size)
    centers = np.sort(np.where(np.arange(size) % 2 == 0, shares, spread))
    for _ in range(ROUNDS):
        label = nearest(centers, mean)
        total = np.bincount(label, weight, size)
        moved = np.bincount(label, weight * mean, size) / np.maximum(total, 1e-12)
        centers = np.sort(np.where(total > 0, moved, centers))
    return centers.astype(np.float32)


def nearest(centers: Float[np.ndarray, "s"], values: np.ndarray) -> Int[np.ndarray, "..."]:
    """Position of the nearest of sorted numbers."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values)


def palette(
    vectors: Float[Tensor, "n d"], size: int, seed: int = 0
) -> tuple[Float[Tensor, "s d"], Int[Tensor, "n"]]:
    """At most `size` vectors and which of them stands for each: k-means in two levels, first into
    groups, then within each group, which takes a fraction of the time of one large k-means."""
    generator = torch.Generator().manual_seed(seed)
    groups = max(int(size**0.5), 1)
    _, group = _k_means(vectors, groups, generator)
    centers, label, start = [], torch.zeros(len(vectors), dtype=torch.long), 0
    for number in range(int(group.max()) + 1 if len(group) else 0):
        inside = torch.nonzero(group == number)[:, 0]
        if len(inside) == 0:
            continue
        # As many for a group as its share of all vectors.
        share = max(int(size * len(inside) / len(vectors)), 1)
        found, which = _k_means(vectors[inside], share, generator)
        label[inside] = start + which
        centers.append(found)
        start += len(found)
    return torch.cat(centers), label


def _k_means(
    vectors: Float[Tensor, "n d"], size: int, generator: torch.Generator, rounds: int = 8
) -> tuple[Float[Tensor, "s d"], Int[Tensor, "n"]]:
    size = min(size, len(vectors))
    centers = vectors[torch.randperm(len(vectors), generator=generator)[:size]]
    for _ in range(rounds):
        label = _closest(vectors, centers)
        count = torch.bincount(label, minlength=size)
        total = torch.zeros_like(centers).index_add_(0, label, vectors)
        centers = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centers)
    return centers, _closest(vectors, centers)


def _closest(vectors: Float[Tensor, "n d"], centers: Float[Tensor, "s d"]) -> Int[Tensor, "n"]:
    half = 0.5 * centers.square().sum(1)
    rows = max((1 << 24) // max(len(centers), 1), 1)
    found = [(part @ centers.T - half).argmax(1) for part in vectors.split(rows)]
    return torch.cat(found)
