"""The protocol between the trainer and sources of training scenes."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.api import ViewBatch
from render import Cameras
from render.tensors import TensorStruct


@dataclass(frozen=True)
class SampleRequest:
    """One scene of one training step; the same request always yields the same sample."""

    seed: int
    """Seed of the scene (32 bits: torch's CPU generator ignores the higher ones)."""
    context: int = 2
    """Number of views that go into the network."""
    targets: int = 2
    """Number of views that are rendered and compared but not given to the network."""
    width: int = 128
    """Image width (px)."""
    height: int = 128
    """Image height (px)."""
    baseline: float = 1.0
    """Distance between the views, relative to the source's configured distance."""
    step: int = 0
    """Training step, for sources that read from one file for several steps."""
    device: str = "cpu"
    """Device that the sample's tensors must be on."""

    @property
    def views(self) -> int:
        """Number of images of the sample: context and targets."""
        return self.context + self.targets

    def generator(self) -> torch.Generator:
        """Return a CPU generator seeded for this request."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class TrainingSample(TensorStruct, axis="v"):
    """Views of one scene, context views first."""

    images: Float[Tensor, "*v 3 h w"]
    """Display sRGB in [0, 1]."""
    cameras: Cameras
    """Cameras of the images."""
    depth: Float[Tensor, "*v h w"]
    """z (units of the cameras); NaN where it is unknown."""
    near: Float[Tensor, "*v"]
    """Nearest depth hypothesis of the network (z)."""
    far: Float[Tensor, "*v"]
    """Farthest depth hypothesis of the network (z)."""

    def shuffled(self, seed: int) -> "TrainingSample":
        """Return the views in random order, so that targets lie between and beyond the context."""
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
        return self[order.to(self.images.device)]


@dataclass(frozen=True)
class Batch:
    """Scenes of one training step: context goes into the network, all views are rendered."""

    context: ViewBatch
    """Input views of the network."""
    cameras: Cameras
    """Cameras of all views, context first, with one batch axis."""
    images: Float[Tensor, "b t 3 h w"]
    """Reference images of all views."""
    depth: Float[Tensor, "b v h w"]
    """Reference z of the context views; NaN where it is unknown."""


class Unusable(Exception):
    """A frame, clip or mesh that cannot be used; skips are counted by the message."""


@dataclass
class Skipped:
    """Number of skipped items by reason."""

    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str) -> None:
        """Count one skipped item."""
        self.reasons[reason] += 1

    def __str__(self) -> str:
        return ", ".join(f"{reason} ({count})" for reason, count in self.reasons.items())


@runtime_checkable
class Source(Protocol):
    """A source of training scenes: anything with this method can be given to a `Trainer`."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return the scene of a request.

        Exact resumption needs it to depend on the request alone (draw with `request.generator()`).

        Raises:
            ReconError: The source has no scene to give.
        """
        ...
