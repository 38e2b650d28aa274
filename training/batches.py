"""Batches of training scenes.

A batch depends on the run's seed and the step alone: resuming needs no data loader state, and any
number of processes makes the same global batch.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import default_collate

from recon.errors import ReconError
from recon.model.api import ViewBatch
from training.config import TrainConfig
from training.data.types import (
    Batch,
    SampleRequest,
    Source,
    TrainingSample,
    hashed_seed,
    problem_of,
)
from training.sources import source_name

# The curriculum rounds image sides to multiples of this, so that no network has to pad them.
SIDE_MULTIPLE_PX = 16


def make_batch(
    config: TrainConfig,
    source: Source,
    step: int,
    shard: tuple[int, int] = (0, 1),
    device: str = "cpu",
    held_out: bool = False,
) -> Batch:
    """Make the batch of a training step, or one shard of it.

    Args:
        config: The run's configuration: dataset, curriculum and seed.
        source: Source of the scenes.
        step: Training step.
        shard: (index, count): scenes index, index + count, ... of the step's global batch.
        device: Device of the batch.
        held_out: Whether the batch is for validation.

    Raises:
        ReconError: A sample is not what it should be; the message names the source and the field.
    """
    first, every = shard
    request = replace(_request(config, step, device), order=config.seed, held_out=held_out)
    samples = []
    for item in range(first, config.dataset.batch, every):
        seed, index = seed_of(config.seed, step, item), step * config.dataset.batch + item
        item_request = replace(request, seed=seed, index=index)
        sample = _check(source.sample(item_request), source, item_request)
        samples.append(_with_slack(sample, item_request, config.dataset.slack))
    return _collate(samples, request.context)


def seed_of(*numbers: int) -> int:
    """Hash integers to a 32-bit seed."""
    return hashed_seed(repr(numbers))


def _request(config: TrainConfig, step: int, device: str) -> SampleRequest:
    """Return what all scenes of a step have in common at this point of the curriculum."""
    dataset, curriculum = config.dataset, config.curriculum
    progress = min(1.0, step / curriculum.steps) if curriculum.steps > 0 else 1.0
    low, high = dataset.context
    start = min(max(curriculum.views, low), high)
    high = round(start + progress * (high - start))
    generator = torch.Generator().manual_seed(seed_of(config.seed, step, -1))
    context = low + int(torch.randint(high - low + 1, (), generator=generator))
    scale = curriculum.resolution + progress * (1 - curriculum.resolution)
    return SampleRequest(
        seed=0,
        context=context,
        targets=dataset.targets,
        width=_side(dataset.width, scale),
        height=_side(dataset.height, scale),
        baseline=curriculum.baseline + progress * (1 - curriculum.baseline),
        complexity=curriculum.complexity + progress * (1 - curriculum.complexity),
        step=step,
        device=device,
    )


def _side(side: int, scale: float) -> int:
    if scale >= 1:
        return side
    return min(side, max(1, round(side * scale / SIDE_MULTIPLE_PX)) * SIDE_MULTIPLE_PX)


def _check(sample: TrainingSample, source: Source, request: SampleRequest) -> TrainingSample:
    """Raise ReconError when a source's sample is not what it should be."""
    problem = problem_of(sample, request)
    if problem is not None:
        raise ReconError(f"source {source_name(source, request)}: {problem}")
    return sample


def _with_slack(sample: TrainingSample, request: SampleRequest, slack: float) -> TrainingSample:
    """Jitter near and far, so that they do not reveal the exact nearest and farthest depth."""
    draw = torch.rand(2, generator=request.generator())
    closer, farther = torch.exp(slack * (1.25 * draw - 0.25)).tolist()
    near, far = sample.near / closer, sample.far * farther
    depth = torch.minimum(torch.maximum(sample.depth, near[:, None, None]), far[:, None, None])
    return replace(sample, near=near, far=far, depth=depth)


def _collate(samples: list[TrainingSample], context: int) -> Batch:
    cameras = replace(
        samples[0].cameras,
        viewmats=torch.stack([s.cameras.viewmats for s in samples]),
        Ks=torch.stack([s.cameras.Ks for s in samples]),
    )
    # Unlike torch.stack, into the memory that a worker shares with the trainer: one copy less.
    images: Tensor = default_collate([s.images for s in samples])
    near, far = (torch.stack([getattr(s, k)[:context] for s in samples]) for k in ("near", "far"))
    views = ViewBatch(images[:, :context], cameras[:context], near, far)
    depth: Tensor = default_collate([s.depth[:context] for s in samples])
    return Batch(views, cameras, images, depth)
