"""Batches of the next steps: made when a step begins, or in advance by other processes.

A batch depends on the seed and the step alone (`batches.py`), so both ways give the same batches.
"""

import os
import pickle
import signal
import warnings
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader, Dataset

from recon.errors import ConfigError, ReconError
from training.batches import make_batch
from training.config import TrainConfig
from training.data.types import Batch, Source

Shard = tuple[int, tuple[int, int]]
"""A step, and which scenes of its batch (see `make_batch`)."""
# Batches that each process makes in advance.
AHEAD = 3
# The process that trains must not wait for a core.
NICENESS = 10
# Larger tensors are put into shared memory (bytes).
MOST_BY_VALUE = 16384
# Sent to all processes of a training, which then saves: Ctrl-C, and a cluster's SIGTERM.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What torch's errors begin with when a process of a DataLoader ended by itself.
WORKER_ENDED = "DataLoader worker"


@dataclass(frozen=True)
class StepShards(Sequence[Shard]):
    """The shards of many steps in order, without a list of them in every process."""

    steps: range
    parts: range
    """Indices of the parts of each step's batch."""
    of: int
    """Number of parts of a batch, over all processes."""

    def __len__(self) -> int:
        return len(self.steps) * len(self.parts)

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Shard]: ...
    def __getitem__(self, index: int | slice) -> Shard | Sequence[Shard]:
        """Return a shard, or a list of several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        step, part = divmod(range(len(self))[index], len(self.parts))
        return self.steps[step], (self.parts[part], self.of)


def make_parts(
    config: TrainConfig, source: Source, shards: Sequence[Shard], device: str
) -> Generator[Batch, None, None]:
    """Yield batches, each made on `device` when it is asked for."""
    for step, shard in shards:
        yield make_batch(config, source, step, shard, device)


@contextmanager
def _blocked(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Receive these signals after the block; processes that start in it do not receive them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker(SpawnProcess):
    """A process that makes scenes, and that only its owner can end.

    It receives no signal of `SIGNALS`, by one of which torch and multiprocessing end processes:
    they would wait for ever.
    """

    @staticmethod
    def _Popen(process: Any) -> Any:
        # Also while the process starts, before it can ignore them.
        with _blocked(SIGNALS):
            started: Any = SpawnProcess._Popen(process)
        started.terminate = started.kill
        return started


class _Workers(SpawnContext):
    """Starts each process anew (spawn): a copy of one with threads or a GPU may hang."""

    Process = _Worker


class _Batches(Dataset[Batch | Exception]):
    """The batches of a run by position in a list of shards."""

    def __init__(self, config: TrainConfig, source: Source, shards: Sequence[Shard]) -> None:
        self.config, self.source, self.shards = config, source, shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> Batch | Exception:
        """Make a batch on the CPU; return an error of the user instead of raising it.

        DataLoader would put its message into a traceback.
        """
        step, shard = self.shards[index]
        try:
            return make_batch(self.config, self.source, step, shard)
        except (ReconError, OSError) as error:
            return error


def batches_ahead(
    config: TrainConfig, source: Source, shards: Sequence[Shard], device: str
) -> Generator[Batch, None, None]:
    """Yield batches in order, made in advance by `config.workers` processes on the CPU.

    On a GPU, each batch is copied from pinned memory while the previous one is used. The source is
    sent to the processes and must be picklable. They end when the generator is closed or raises.

    Raises:
        ReconError: The source cannot be sent to a process, or returned something wrong.
        OSError: A source could not read a file.
    """
    cuda = device.startswith("cuda")
    # More processes than cores may be wanted: they also wait for files.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    warnings.filterwarnings("ignore", "Got pickle error")  # `_started` says it
    loader: DataLoader[Batch | Exception] = DataLoader(
        _Batches(config, source, shards),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=AHEAD,
        collate_fn=_unchanged,
        pin_memory=cuda,
        multiprocessing_context=_Workers(),
        worker_init_fn=_start_worker,
        # The loader draws a seed: not from the generator that the network uses.
        generator=torch.Generator(),
    )
    with closing(_fetched_ahead(_started(loader, source))) as made:
        yield from _copied_ahead(made, torch.device(device)) if cuda else made


def _started(loader: DataLoader[Any], source: Source) -> Iterator[Batch | Exception]:
    """Start the processes of a loader."""
    try:
        return iter(loader)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"workers is {loader.num_workers}, but source {type(source).__name__} cannot be sent "
            f"to other processes: {error}; use workers=0, or a source without local functions and "
            "open files"
        ) from None


def _fetched_ahead(batches: Iterator[Batch | Exception]) -> Generator[Batch, None, None]:
    """Yield batches; while one is used, the next is received by a thread."""
    try:
        with ThreadPoolExecutor(1) as thread:
            fetched = thread.submit(next, batches, None)
            while (batch := fetched.result()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                fetched = thread.submit(next, batches, None)
                yield batch
    finally:
        # torch would end the processes with the last reference, but a traceback may hold one.
        if (end := getattr(batches, "_shutdown_workers", None)) is not None:
            end()


def _copied_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on a GPU; while one is used, the next is copied there on its own stream."""
    stream = torch.cuda.Stream(device)

    def copied(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            return batch.to(device, non_blocking=True), stream.record_event()

    def usable(batch: Batch, event: torch.cuda.Event) -> Batch:
        current = torch.cuda.current_stream(device)
        current.wait_event(event)

        def used_here(tensor: Tensor) -> Tensor:
            # Or its memory would be given to the next copy while it is still read.
            tensor.record_stream(current)
            return tensor

        return batch.map(used_here)

    ahead: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        previous, ahead = ahead, copied(batch)
        if previous is not None:
            yield usable(*previous)
    if ahead is not None:
        yield usable(*ahead)


@contextmanager
def naming_ended_workers(state: Path | None = None) -> Iterator[None]:
    """Raise ReconError when a process that makes scenes ends by itself.

    torch raises its error wherever the training is, not only where a batch is awaited.

    Args:
        state: File from which the run could be resumed.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(WORKER_ENDED):
            raise
        again = "continue with --resume" if state and state.is_file() else "start again"
        reason = str(error).split("killed by signal: ")[-1].split(".")[0]
        raise ReconError(
            f"a process that makes scenes ended ({reason}): the memory, or the shared memory in "
            f"/dev/shm, may be too small; lower workers or dataset.batch and {again}"
        ) from None


def _unchanged(batch: Any) -> Any:
    return batch


def _start_worker(index: int) -> None:
    """Leave cores and signals to the process that trains."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    ForkingPickler.register(Tensor, _reduced)


def _reduced(tensor: Tensor) -> tuple[Any, ...]:
    """Send a small tensor by value: each one in shared memory costs a connection (0.4 ms)."""
    if tensor.nbytes > MOST_BY_VALUE:
        return reduce_tensor(tensor)  # type: ignore[no-any-return]
    return torch.from_numpy, (tensor.numpy(),)
