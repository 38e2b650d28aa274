"""What every source of training scenes is asked for, and what it gives."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras


@dataclass(frozen=True)
class SampleRequest:
    """One scene of one step; the same request always gets the same sample."""

    seed: int
    """32 bits: torch's generator for CPUs ignores all above."""
    context: int = 2
    """Views that go into the network."""
    targets: int = 2
    """Views that are only rendered."""
    width: int = 128
    """Of the pictures (px)."""
    height: int = 128
    """Of the pictures (px)."""
    baseline: float = 1.0
    """Distance between the views, relative to what the source is configured for."""
    step: int = 0
    """For sources that stay with one file for some steps."""
    device: str = "cpu"

    @property
    def views(self) -> int:
        """All pictures of the sample."""
        return self.context + self.targets

    def generator(self) -> torch.Generator:
        """For whatever is random."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class TrainingSample:
    """Views of one scene, context first."""

    images: Float[Tensor, "v 3 h w"]
    """Display sRGB in [0, 1]."""
    cameras: Cameras
    depth: Float[Tensor, "v h w"]
    """z (units of the cameras); NaN where it is not known."""
    near: Float[Tensor, "v"]
    """Nearest depth the network is asked for."""
    far: Float[Tensor, "v"]

    def shuffled(self, seed: int) -> "TrainingSample":
        """Views in random order, so that targets lie between and beyond the context."""
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
        order = order.to(self.images.device)
        return TrainingSample(
            self.images[order],
            self.cameras[order],
            self.depth[order],
            self.near[order],
            self.far[order],
        )

    def to(self, device: str) -> "TrainingSample":
        """The sample on another device."""
        return replace(
            self,
            images=self.images.to(device),
            cameras=self.cameras.to(device),
            depth=self.depth.to(device),
            near=self.near.to(device),
            far=self.far.to(device),
        )


class Unusable(Exception):
    """A frame, film or mesh that cannot be used; the message is the reason it is counted under."""


@dataclass
class Skipped:
    """What was left out, by reason."""

    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str) -> None:
        """Count one."""
        self.reasons[reason] += 1


@runtime_checkable
class Source(Protocol):
    """A source of scenes."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        """The scene of this request; ReconError when the source has none to give."""
        ...
