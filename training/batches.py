"""The scenes of a step, made from the step's number alone: resuming needs no loader's state,
and any number of processes makes the same global batch."""

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.batch import ViewBatch
from render import Cameras
from training.config import TrainConfig
from training.data.types import SampleRequest, Source, TrainingSample

# Pictures of a curriculum keep sides that no network has to pad.
SIDE_MULTIPLE_PX = 16


@dataclass(frozen=True)
class Batch:
    """Context goes into the network; all views, context first, are rendered and compared."""

    context: ViewBatch
    cameras: Cameras
    """Of all views, one batch axis."""
    images: Float[Tensor, "b t 3 h w"]
    depth: Float[Tensor, "b v h w"]
    """z of the context views; NaN where it is not known."""


def make_batch(
    config: TrainConfig,
    source: Source,
    step: int,
    share: tuple[int, int] = (0, 1),
    device: str = "cpu",
) -> Batch:
    """Every n-th scene of a step, from the k-th on: share is (k, n)."""
    first, every = share
    request = _request(config, step, device)
    samples = []
    for item in range(first, config.data.batch, every):
        asked = replace(request, seed=seed_of(config.seed, step, item))
        samples.append(_with_slack(source.sample(asked), asked, config.data.slack))
    return _collate(samples, request.context)


def seed_of(*numbers: int) -> int:
    """A seed of 32 bits: torch's generator for CPUs ignores all above."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _request(config: TrainConfig, step: int, device: str) -> SampleRequest:
    """What all scenes of a step have in common, as far as the curriculum has come."""
    data, curriculum = config.data, config.curriculum
    done = min(1.0, step / curriculum.steps) if curriculum.steps > 0 else 1.0
    low, high = data.context
    start = min(max(curriculum.views, low), high)
    high = round(start + done * (high - start))
    draw = torch.Generator().manual_seed(seed_of(config.seed, step, -1))
    context = low + int(torch.randint(high - low + 1, (), generator=draw))
    scale = curriculum.resolution + done * (1 - curriculum.resolution)
    return SampleRequest(
        seed=0,
        context=context,
        targets=data.targets,
        width=_side(data.width, scale),
        height=_side(data.height, scale),
        baseline=curriculum.baseline + done * (1 - curriculum.baseline),
        step=step,
        device=device,
    )


def _side(side: int, scale: float) -> int:
    if scale >= 1:
        return side
    return min(side, max(1, round(side * scale / SIDE_MULTIPLE_PX)) * SIDE_MULTIPLE_PX)


def _with_slack(sample: TrainingSample, request: SampleRequest, slack: float) -> TrainingSample:
    """The sample with a range that does not tell where its nearest and farthest points are."""
    draw = torch.rand(2, generator=request.generator())
    closer, farther = torch.exp(slack * (1.25 * draw - 0.25)).tolist()
    near, far = sample.near / closer, sample.far * farther
    depth = torch.minimum(torch.maximum(sample.depth, near[:, None, None]), far[:, None, None])
    return replace(sample, near=near, far=far, depth=depth)


def _collate(samples: list[TrainingSample], context: int) -> Batch:
    together = replace(
        samples[0].cameras,
        viewmats=torch.stack([s.cameras.viewmats for s in samples]),
        Ks=torch.stack([s.cameras.Ks for s in samples]),
    )
    images = torch.stack([s.images for s in samples])
    near, far = (torch.stack([getattr(s, k)[:context] for s in samples]) for k in ("near", "far"))
    views = ViewBatch(images[:, :context], together[:context], near, far)
    depth = torch.stack([s.depth[:context] for s in samples])
    return Batch(views, together, images, depth)
