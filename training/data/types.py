"""The protocol between the trainer and sources of training scenes."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from recon.errors import ConfigError, counted
from recon.model.api import ViewBatch
from render import Cameras
from render.tensors import TensorStruct

# By how much rounding may take image values out of [0, 1].
TOLERANCE = 1e-4
Item = TypeVar("Item")


def hashed_seed(text: str, size: int = 4) -> int:
    """Hash a text to a seed of `size` bytes; torch's CPU generator uses no more than 4."""
    digest = hashlib.blake2b(text.encode(), digest_size=size).digest()
    return int.from_bytes(digest, "little")


def draw_index(generator: torch.Generator, count: int) -> int:
    """Draw an index below a count."""
    return int(torch.randint(count, (), generator=generator))


def split_held_out(
    items: Sequence[Item], keys: Sequence[str], count: int
) -> tuple[list[Item], list[Item]]:
    """Split items into those to train on and those that are held out, both in their order.

    The hashes of the keys choose: an item that comes or goes moves one other at most.

    Args:
        items: What to split.
        keys: Name of each item; those of the same name stay together.
        count: Number of names that are held out; at most half of all are.
    """
    names = sorted(set(keys), key=lambda key: (hashed_seed(key), key))
    chosen = set(names[: min(count, len(names) // 2)])
    parts: tuple[list[Item], list[Item]] = ([], [])
    for item, key in zip(items, keys, strict=True):
        parts[key in chosen].append(item)
    return parts


def none_held_out(source: str, held_out: int, total: int, folder: str) -> ConfigError:
    """Return the error of a source that has no scene for validation."""
    return ConfigError(
        f"{source}.held_out is {held_out}, but validation needs some of the "
        f"{counted(total, 'scene')} in {folder}, at most half; set validate_every=0, or "
        f"{source}.held_out to 1 or more with 2 scenes or more"
    )


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
    complexity: float = 1.0
    """Number of things in a scene, from 0 (few) to 1, for sources that make their scenes."""
    step: int = 0
    """Training step, for sources that read from one file for several steps."""
    device: str = "cpu"
    """Device that the sample's tensors must be on."""
    index: int | None = None
    """Number of scenes of the run before this one, by which a source with a finite number of scenes
    takes each once before it repeats any; None draws one by the seed."""
    order: int = 0
    """Seed of the order in which such a source takes its scenes: that of the run."""
    held_out: bool = False
    """Whether the scene is for validation; a finite source keeps scenes for this alone."""

    @property
    def views(self) -> int:
        """Number of images of the sample: context and targets."""
        return self.context + self.targets

    def generator(self) -> torch.Generator:
        """Return a CPU generator seeded for this request."""
        return torch.Generator().manual_seed(self.seed)


def draw_near(
    nearest: Sequence[int], neighbours: int, request: SampleRequest, generator: torch.Generator
) -> list[int]:
    """Draw the views of a sample in random order from a view and its nearest neighbours.

    Args:
        nearest: Indices of all views, nearest to that view first.
        neighbours: Number of neighbours at the request's baseline 1; more if the request has more
            views.
        request: Says how many views, and how far apart.
        generator: Source of the random numbers.
    """
    near = nearest[: max(round(neighbours * request.baseline) + 1, request.views)]
    order = torch.randperm(len(near), generator=generator)[: request.views]
    return [near[i] for i in order.tolist()]


@dataclass(frozen=True)
class TrainingSample(TensorStruct, axis="v"):
    """Views of one scene, context views first; all tensors are float32."""

    images: Float[Tensor, "*v 3 h w"]
    """Display sRGB in [0, 1]."""
    cameras: Cameras
    """Cameras of the images."""
    depth: Float[Tensor, "*v h w"]
    """z (units of the cameras); NaN, not 0, where it is unknown."""
    near: Float[Tensor, "*v"]
    """Nearest depth (z) of the scene in each view; known depths are clamped to near and far, after
    `dataset.slack` has moved both."""
    far: Float[Tensor, "*v"]
    """Farthest depth (z) of the scene in each view."""

    def shuffled(self, seed: int) -> "TrainingSample":
        """Return the views in random order, for a source that makes them along a path.

        The first views of a sample are its context: without shuffling, all targets would lie
        beyond the context; with it, they lie between and beyond.
        """
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
        return self[order.to(self.images.device)]


@dataclass(frozen=True)
class Batch(TensorStruct):
    """Scenes of one training step: context goes into the network, all views are rendered.

    Axes: b scenes, v context views, t all views (context, then targets), h w pixels.
    """

    context: ViewBatch
    """Input views of the network."""
    cameras: Cameras
    """Cameras of all views, context first, with one batch axis."""
    images: Float[Tensor, "b t 3 h w"]
    """Reference images of all views."""
    depth: Float[Tensor, "b v h w"]
    """Reference z of the context views; NaN where it is unknown."""

    def pin_memory(self) -> "Batch":
        """Copy to memory from which a GPU reads without waiting (called by torch's DataLoader)."""
        return self.map(Tensor.pin_memory)


def problem_of(sample: TrainingSample, request: SampleRequest) -> str | None:
    """Return what is wrong with a sample, or None: field, what was expected, what was found."""
    if not isinstance(sample, TrainingSample):
        return f"expected a TrainingSample, found {type(sample).__name__}"
    count, height, width = request.views, request.height, request.width
    cameras = sample.cameras
    for name, value, shape in (
        ("images", sample.images, (count, 3, height, width)),
        ("cameras.viewmats", cameras.viewmats, (count, 4, 4)),
        ("cameras.Ks", cameras.Ks, (count, 3, 3)),
        ("depth", sample.depth, (count, height, width)),
        ("near", sample.near, (count,)),
        ("far", sample.far, (count,)),
    ):
        if tuple(value.shape) != shape:
            return f"expected {name} of shape {shape}, found {tuple(value.shape)}"
        if value.dtype != torch.float32:
            return f"expected {name} of dtype float32, found {str(value.dtype).split('.')[-1]}"
    if (cameras.width, cameras.height) != (width, height):
        return (
            f"expected cameras of the images' size {width} x {height}, "
            f"found {cameras.width} x {cameras.height}"
        )
    # NaN in an image makes both ends NaN. All values come from the device at once.
    low, high = sample.images.aminmax()
    near, far = sample.near, sample.far
    ends = [near.min(), (near < far).all() & far.isfinite().all()]
    matrices = [cameras.viewmats.isfinite().all() & cameras.Ks.isfinite().all()]
    wrong = (sample.depth <= 0).sum()
    found = torch.stack([x.double() for x in (low, high, *ends, *matrices, wrong)]).tolist()
    if not (found[0] >= -TOLERANCE and found[1] <= 1 + TOLERANCE):
        return f"expected images in [0, 1], found values from {found[0]:g} to {found[1]:g}"
    if not (found[2] > 0 and found[3]):
        pairs = ", ".join(
            f"{a:g} to {b:g}" for a, b in zip(near.tolist(), far.tolist(), strict=True)
        )
        return f"expected 0 < near < far in every view, found {pairs}"
    if not found[4]:
        return "expected finite cameras.viewmats and cameras.Ks, found NaN or infinite values"
    if found[5]:
        return (
            f"expected depth above 0, or NaN where it is unknown, found {found[5]:.0f} pixels of "
            "depth 0 or less"
        )
    return None


class Unusable(Exception):
    """A frame, clip or mesh that cannot be used; skips are counted by the message."""


@dataclass
class Skipped:
    """Number of skipped items by reason."""

    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str) -> None:
        """Count one skipped item."""
        self.reasons[reason] += 1

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def __str__(self) -> str:
        return ", ".join(f"{reason} ({count})" for reason, count in self.reasons.items())


@runtime_checkable
class Source(Protocol):
    """A source of training scenes: anything with this method can be given to a `Trainer`."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return the scene of a request.

        A run resumes bit for bit only if the sample depends on the request alone: draw random
        numbers with `request.generator()`.

        Raises:
            ReconError: The source has no scene to give.
        """
        ...
