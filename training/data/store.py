"""Write the scenes of a configuration to a folder, from which the source `stored` reads them.

python -m training.data.store OUT --config configs/x.yaml --scenes 16000 --views 8 [key=value ...]

The same configuration gives the same scenes. A command that was interrupted continues where it
stopped, and a larger number of scenes adds to a folder.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from recon.errors import ConfigError, InputError, ReconError
from recon.files import atomic_output, check_output, create_folder
from recon.reporting import say
from recon.workers import ENDED
from training.batches import seed_of
from training.config import TrainConfig, check_config, read_config
from training.data.stored import encode_depth, shape_of
from training.data.types import SampleRequest, Source, TrainingSample, problem_of
from training.programs import program
from training.sources import build_source

MANIFEST = "store.json"
# Sets the seeds apart from those of training steps and of the context (`training/batches.py`).
STREAM = -2
# Fields of the dataset that change no scene.
IRRELEVANT = ("context", "targets", "batch", "slack")


@dataclass(frozen=True)
class StorePlan:
    """What a folder of scenes holds."""

    folder: Path
    """Folder of the shards."""
    config: TrainConfig
    """Sources and size of the scenes, and their seed."""
    scenes: int
    """Number of scenes."""
    views: int
    """Number of views of each scene."""
    shard: int = 100
    """Number of scenes in a file."""

    @property
    def shards(self) -> list[tuple[Path, range]]:
        """The file and the scenes of every shard."""
        firsts = range(0, self.scenes, self.shard)
        ends = [min(first + self.shard, self.scenes) for first in firsts]
        return [
            (self.folder / f"{first:06d}.safetensors", range(first, end))
            for first, end in zip(firsts, ends, strict=True)
        ]


def write_store(plan: StorePlan, processes: int = 1) -> None:
    """Write all shards that a folder lacks; what it has beyond the plan is kept.

    Raises:
        ConfigError: A number is wrong, or the folder holds scenes of another configuration.
        InputError: The folder cannot be written or is damaged, or one of the processes ended.
        ReconError: A source has no scene to give, or a sample is not what it should be.
    """
    _check_numbers(plan, processes)
    check_config(plan.config)
    create_folder(plan.folder)
    check_output(plan.folder / MANIFEST)
    _check_manifest(plan)
    missing = [
        (path, scenes)
        for path, scenes in plan.shards
        if not path.is_file() or shape_of(path)[0] < len(scenes)
    ]
    say(f"{len(plan.shards) - len(missing)} of {len(plan.shards)} shards are in {plan.folder}")
    if processes == 1:
        return _write_shards(plan, missing)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        parts = [pool.submit(_write_shards, plan, missing[k::processes]) for k in range(processes)]
        try:
            for part in parts:
                part.result()
        except BrokenProcessPool:
            raise InputError(
                f"{plan.folder}: {ENDED}; the same command goes on, and fewer --processes take "
                "less memory"
            ) from None
    return None


def _check_numbers(plan: StorePlan, processes: int) -> None:
    """Check the options; raise ConfigError for the first that cannot be right."""
    for option, value in (
        ("scenes", plan.scenes), ("views", plan.views), ("shard", plan.shard),
        ("processes", processes),
    ):  # fmt: skip
        if value < 1:
            raise ConfigError(f"--{option} must be at least 1, found {value}")


def _read_manifest(path: Path) -> Any:
    """Return the recorded configuration; raise InputError if the file is damaged."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        facts = error
    if not isinstance(facts, dict):
        raise InputError(
            f"cannot read {path}: {facts if isinstance(facts, Exception) else 'no JSON object'}; "
            "it records how the scenes there were made: put an intact copy there, or choose "
            "another folder"
        )
    return facts


def _check_manifest(plan: StorePlan) -> None:
    """Record the configuration of a folder, or compare it with the recorded one."""
    dataset = {k: v for k, v in asdict(plan.config.dataset).items() if k not in IRRELEVANT}
    facts = {"seed": plan.config.seed, "views": plan.views, "shard": plan.shard, "dataset": dataset}
    path = plan.folder / MANIFEST
    if not path.is_file():
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n")
        return
    change = _first_change(_read_manifest(path), json.loads(json.dumps(facts)), "")
    if change is not None:
        raise ConfigError(
            f"{path}: the scenes there were written with {change}; choose another folder"
        )


def _first_change(old: Any, new: Any, where: str) -> str | None:
    """Describe the first difference of two configurations; keys that one lacks do not count."""
    if isinstance(old, dict) and isinstance(new, dict):
        changes = (_first_change(old[k], new[k], f"{where}.{k}") for k in old if k in new)
        return next((change for change in changes if change is not None), None)
    return None if old == new else f"{where.lstrip('.')}={old}, not {new}"


def _write_shards(plan: StorePlan, shards: Sequence[tuple[Path, range]]) -> None:
    source = build_source(plan.config.dataset, plan.config.seed, "cpu")
    for path, scenes in shards:
        rows = [_encoded(_scene(plan, source, index)) for index in scenes]
        with atomic_output(path) as temporary:
            save_file({name: np.stack([row[name] for row in rows]) for name in rows[0]}, temporary)
        say(f"wrote {path}")


def _scene(plan: StorePlan, source: Source, index: int) -> TrainingSample:
    dataset = plan.config.dataset
    seed = seed_of(plan.config.seed, STREAM, index)
    request = SampleRequest(
        seed, plan.views, 0, dataset.width, dataset.height, step=index, index=index
    )
    sample = source.sample(request)
    problem = problem_of(sample, request)
    if problem is not None:
        raise ReconError(f"scene {index} of {source}: {problem}")
    return sample


def _encoded(sample: TrainingSample) -> dict[str, np.ndarray]:
    return {
        "images": (255 * sample.images).round().clamp(0, 255).to(torch.uint8).numpy(),
        "depth": encode_depth(sample.depth, sample.near, sample.far),
        "viewmats": sample.cameras.viewmats.numpy(),
        "Ks": sample.cameras.Ks.numpy(),
        "near": sample.near.numpy(),
        "far": sample.far.numpy(),
    }


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the scenes that the command line asks for; exit with code 2 on a user error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, help="YAML file of a training run")
    parser.add_argument("--scenes", type=int, required=True)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--shard", type=int, default=100, help="scenes in a file")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("assignments", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    config = read_config(options.config, options.assignments)
    plan = StorePlan(options.out, config, options.scenes, options.views, options.shard)
    write_store(plan, options.processes)


if __name__ == "__main__":
    main()
