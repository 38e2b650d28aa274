"""Directions spread over the sphere."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def spread_directions(count: int) -> Float[Tensor, "count 3"]:
    """Spread unit directions evenly over the sphere (Fibonacci lattice), float64."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    azimuth = math.pi * (1 + math.sqrt(5)) * index
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], -1)
