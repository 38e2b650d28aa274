"""Batches of the next steps: made when a step begins, or in advance by other processes.

A batch depends on the seed and the step alone (`batches.py`), so both ways give the same batches.
"""

import signal
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from recon.errors import ReconError
from training.batches import make_batch
from training.config import TrainConfig
from training.data.types import Batch, Source

Shard = tuple[int, tuple[int, int]]
"""A step, and which scenes of its batch (see `make_batch`)."""
# Batches that each process makes in advance.
AHEAD = 3


def make_parts(
    config: TrainConfig, source: Source, shards: Sequence[Shard], device: str
) -> Generator[Batch, None, None]:
    """Yield batches, each made on `device` when it is asked for."""
    for step, shard in shards:
        yield make_batch(config, source, step, shard, device)


class _Batches(Dataset[Batch | ReconError]):
    """The batches of a run by position in a list of shards."""

    def __init__(self, config: TrainConfig, source: Source, shards: Sequence[Shard]) -> None:
        self.config, self.source, self.shards = config, source, shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> Batch | ReconError:
        """Make a batch on the CPU; return an error of the user instead of raising it.

        DataLoader would put its message into a traceback.
        """
        step, shard = self.shards[index]
        try:
            return make_batch(self.config, self.source, step, shard)
        except ReconError as error:
            return error


def batches_ahead(
    config: TrainConfig, source: Source, shards: Sequence[Shard], device: str
) -> Generator[Batch, None, None]:
    """Yield batches in order, made in advance by `config.workers` processes on the CPU.

    The processes start anew (spawn), because a copy of a process that has threads or a GPU may
    hang; the source is sent to them and must be picklable.

    Raises:
        ReconError: A source returned something wrong.
    """
    cuda = device.startswith("cuda")
    loader: DataLoader[Batch | ReconError] = DataLoader(
        _Batches(config, source, shards),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=AHEAD,
        collate_fn=_unchanged,
        pin_memory=cuda,
        multiprocessing_context="spawn",
        worker_init_fn=_ignore_interrupts,
        # The loader draws a seed: not from the generator that the network uses.
        generator=torch.Generator(),
    )
    for made in loader:
        if isinstance(made, ReconError):
            raise made
        yield made.to(device, non_blocking=cuda)


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_interrupts(index: int) -> None:
    """Leave Ctrl-C, which every process of a terminal receives, to the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
