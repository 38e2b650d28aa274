"""Growth of the batch until a GPU is full, and the optimiser's settings for a larger batch."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from training.batches import make_batch
from training.config import TrainConfig
from training.data.types import Batch
from training.trainer import Trainer

# Doubling the batch must make the training at least this much faster (scenes/s).
MIN_GAIN = 1.1
MAX_BATCH = 4096


def grow_batch(measure: Callable[[int], float | None], start: int) -> int:
    """Double the batch until memory is full or the throughput stops growing.

    Args:
        measure: Returns the throughput (scenes/s) with a number of scenes, None if they do not fit.
        start: Smallest number of scenes.

    Returns:
        The number of scenes of the last doubling that was worth it.
    """
    best, speed = start, measure(start)
    while speed is not None and 2 * best <= MAX_BATCH:
        doubled = measure(2 * best)
        if doubled is None or doubled < MIN_GAIN * speed:
            break
        best, speed = 2 * best, doubled
    return best


def measure_speed(trainer: Trainer, scenes: int) -> float | None:
    """Return the throughput of training steps (scenes/s), None if memory does not suffice.

    The scenes are copies of one with the maximum number of views, the largest that can occur. The
    weights stay as they are.
    """
    config = trainer.config
    most = config.dataset.context[1]
    dataset = replace(config.dataset, batch=1, context=(most, most))
    one = make_batch(replace(config, dataset=dataset), trainer.source, 0).to(trainer.device)
    try:
        batch = one.map(lambda tensor: tensor.expand(scenes, *tensor.shape[1:]).contiguous())
        seconds = [_step_seconds(trainer, batch) for _ in range(3)]
    except torch.OutOfMemoryError:
        return None
    finally:
        trainer.optimiser.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    # The first step also builds kernels.
    return scenes / min(seconds[1:])


def _step_seconds(trainer: Trainer, batch: Batch) -> float:
    start = time.monotonic()
    losses = trainer.batch_losses(batch)
    trainer.accelerator.backward(losses["total"])
    # Reading a value waits for the GPU.
    float(losses["total"].detach())
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - start


def with_batch(config: TrainConfig, batch: int) -> TrainConfig:
    """Return a configuration with a larger batch that sees as many scenes.

    Steps and warm-up become fewer and the window of the averaged weights stays the same number of
    scenes. The learning rate grows with the square root of the batch, as AdamW needs to follow the
    same path (Malladi et al. 2022, section 5).
    """
    ratio = batch / config.dataset.batch
    old = config.optimiser
    optimiser = replace(
        old,
        steps=max(1, math.ceil(old.steps / ratio)),
        warmup=math.ceil(old.warmup / ratio),
        lr=old.lr * math.sqrt(ratio),
        ema=old.ema**ratio,
    )
    return replace(config, dataset=replace(config.dataset, batch=batch), optimiser=optimiser)
