"""The scenes of a step, made from the step's number alone: resuming needs no loader's state,
and any number of processes makes the same global batch."""

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.batch import ViewBatch
from render import Cameras
from training.config import DataConfig
from training.data.procedural import TrainingSample, generate
from training.data.procedural.bank import TextureBank


@dataclass(frozen=True)
class Batch:
    """Context goes into the network; all views, context first, are rendered and compared."""

    context: ViewBatch
    cameras: Cameras
    """Of all views, one batch axis."""
    images: Float[Tensor, "b t 3 h w"]
    depth: Float[Tensor, "b v h w"]
    """Exact z of the context views."""


def make_batch(
    config: DataConfig,
    bank: TextureBank,
    seed: int,
    step: int,
    process: tuple[int, int] = (0, 1),
    device: str = "cpu",
) -> Batch:
    """The share of process (rank, count) in a step's batch."""
    rank, count = process
    low, high = config.context
    draw = torch.Generator().manual_seed(seed_of(seed, step, -1))
    context = low + int(torch.randint(high - low + 1, (), generator=draw))
    procedural = replace(config.procedural, views=context + config.targets)
    samples = []
    for item in range(rank, config.batch, count):
        item_seed = seed_of(seed, step, item)
        samples.append(_shuffled(generate(item_seed, procedural, bank, device), item_seed))
    return _collate(samples, context)


def seed_of(*numbers: int) -> int:
    """A seed of 32 bits: torch's generator for CPUs ignores all above."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _shuffled(sample: TrainingSample, seed: int) -> TrainingSample:
    """Views in random order, so that targets lie between and beyond the context."""
    order = torch.randperm(len(sample.images), generator=torch.Generator().manual_seed(seed))
    return replace(
        sample,
        images=sample.images[order],
        cameras=sample.cameras[order],
        depth=sample.depth[order],
    )


def _collate(samples: list[TrainingSample], context: int) -> Batch:
    together = replace(
        samples[0].cameras,
        viewmats=torch.stack([s.cameras.viewmats for s in samples]),
        Ks=torch.stack([s.cameras.Ks for s in samples]),
    )
    images = torch.stack([s.images for s in samples])
    near, far = (images.new_tensor([[getattr(s, k)] for s in samples]) for k in ("near", "far"))
    known = (together[:context], near.expand(-1, context), far.expand(-1, context))
    views = ViewBatch(images[:, :context], *known)
    depth = torch.stack([s.depth[:context] for s in samples])
    return Batch(views, together, images, depth)
