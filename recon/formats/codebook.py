"""Vector quantisation: codebooks of scalars and palettes of vectors."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Bins of the histogram that the codebook is fitted to, and iterations of the fits.
BINS = 1 << 17
ITERATIONS, K_MEANS_ITERATIONS = 30, 8


def codebook(values: Float[np.ndarray, "..."], size: int = 256) -> Float[np.ndarray, " s"]:
    """Return sorted scalars that minimise the mean squared error (Lloyd 1982, on a histogram)."""
    flat = np.sort(np.asarray(values, np.float64).ravel())
    if len(flat) == 0:
        return np.zeros(size, np.float32)
    # Bins with equally many values, of which only the mean and the count matter.
    edges = np.linspace(0, len(flat), min(BINS, len(flat)) + 1).astype(int)
    weight = np.diff(edges).astype(np.float64)
    mean = np.add.reduceat(flat, edges[:-1]) / weight
    # Half of the initial centres at quantiles, half evenly spaced: the density of optimal centres
    # falls off towards the tails, but less than that of the values.
    quantiles = mean[np.linspace(0, len(mean) - 1, size).round().astype(int)]
    spread = np.linspace(mean[0], mean[-1], size)
    centers = np.sort(np.where(np.arange(size) % 2 == 0, quantiles, spread))
    for _ in range(ITERATIONS):
        label = nearest(centers, mean)
        total = np.bincount(label, weight, size)
        moved = np.bincount(label, weight * mean, size) / np.maximum(total, 1e-12)
        centers = np.sort(np.where(total > 0, moved, centers))
    return centers.astype(np.float32)


def nearest(centers: Float[np.ndarray, " s"], values: np.ndarray) -> Int[np.ndarray, "..."]:
    """Return the index of the nearest of sorted centres."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values)


def palette(
    vectors: Float[Tensor, "n d"], size: int, seed: int = 0
) -> tuple[Float[Tensor, "s d"], Int[Tensor, " n"]]:
    """Return at most `size` centres, and the index of the centre of each vector.

    K-means in two levels, first into groups and then within each group, takes a fraction of the
    time of one large k-means.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = max(int(size**0.5), 1)
    _, group = _k_means(vectors, groups, generator)
    centers, label, start = [], torch.zeros(len(vectors), dtype=torch.long), 0
    for index in range(int(group.max()) + 1 if len(group) else 0):
        inside = torch.nonzero(group == index)[:, 0]
        if len(inside) == 0:
            continue
        # Centres in proportion to the vectors of the group.
        group_size = max(int(size * len(inside) / len(vectors)), 1)
        found, which = _k_means(vectors[inside], group_size, generator)
        label[inside] = start + which
        centers.append(found)
        start += len(found)
    return torch.cat(centers), label


def _k_means(
    vectors: Float[Tensor, "n d"], size: int, generator: torch.Generator
) -> tuple[Float[Tensor, "s d"], Int[Tensor, " n"]]:
    size = min(size, len(vectors))
    centers = vectors[torch.randperm(len(vectors), generator=generator)[:size]]
    for _ in range(K_MEANS_ITERATIONS):
        label = _closest(vectors, centers)
        count = torch.bincount(label, minlength=size)
        total = torch.zeros_like(centers).index_add_(0, label, vectors)
        centers = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centers)
    return centers, _closest(vectors, centers)


def _closest(vectors: Float[Tensor, "n d"], centers: Float[Tensor, "s d"]) -> Int[Tensor, " n"]:
    half = 0.5 * centers.square().sum(1)
    rows = max((1 << 24) // max(len(centers), 1), 1)
    found = [(block @ centers.T - half).argmax(1) for block in torch.split(vectors, rows)]
    return torch.cat(found)
