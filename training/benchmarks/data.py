"""Measure whether a training run would wait for its scenes.

python -m training.benchmarks.data [--config configs/x.yaml] [--sleep 0.05] [key=value ...]

Each step is replaced by a sleep of fixed length, a stand-in for a GPU. It prints one JSON object.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from recon.reporting import say
from training.batches import make_batch
from training.config import TrainConfig, read_config
from training.data.types import Source
from training.loader import StepShards, batches_ahead, make_parts, naming_ended_workers
from training.programs import program
from training.sources import build_source

# Batches made in this process to measure their processor time, after one that opens files.
MEASURED = 10


def bench_data(config: TrainConfig, steps: int, sleep_s: float) -> dict[str, Any]:
    """Return processor time of a sample, waiting, samples/s and memory of a run's data.

    The first batch, before which the processes start, counts for neither waiting nor samples/s.
    """
    source = build_source(config.dataset, config.seed, "cpu")
    found: dict[str, Any] = {"workers": config.workers, "steps": steps, "sleep_s": sleep_s}
    found["processor_ms_per_sample"] = _processor_ms(config, source)
    shards = StepShards(range(steps + 1), range(1), 1)
    make = batches_ahead if config.workers else make_parts
    waited = 0.0
    with naming_ended_workers(), closing(make(config, source, shards, "cpu")) as batches:
        next(batches)
        start = time.monotonic()
        for _ in range(steps):
            before = time.monotonic()
            next(batches)
            waited += time.monotonic() - before
            time.sleep(sleep_s)
        passed = time.monotonic() - start
    found["waiting"] = waited / passed
    found["samples_per_s"] = steps * config.dataset.batch / passed
    for name, who in (("trainer", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN)):
        found[f"peak_mb_{name}"] = resource.getrusage(who).ru_maxrss / 1024
    return found


def _processor_ms(config: TrainConfig, source: Source) -> float:
    """Return the processor time of a sample, on one thread as in a worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    make_batch(config, source, 0)
    start = time.process_time()
    for step in range(MEASURED):
        make_batch(config, source, step)
    torch.set_num_threads(threads)
    return 1e3 * (time.process_time() - start) / (MEASURED * config.dataset.batch)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for; exit with code 2 on a user error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="YAML file of a training run")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sleep", type=float, default=0.05, help="seconds of a step")
    parser.add_argument("assignments", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    config = read_config(options.config, options.assignments)
    say(json.dumps(bench_data(config, options.steps, options.sleep)))


if __name__ == "__main__":
    main()
