"""The interface of all models."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from recon.types import Views
from render import Gaussians

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Prediction:
    """What a model says of a set of views."""

    gaussians: Gaussians
    """World frame of the views' cameras; no batch axes."""
    photo: Int[Tensor, "n"]
    """The view whose pixel each Gaussian came from."""
    depth: Float[Tensor, "v h w"]
    """Depth (z, world units) of every pixel."""
    confidence: Float[Tensor, "v h w"]
    """How far the depth can be trusted, 0 to 1."""


Model = Callable[[Views, Progress], Prediction]
