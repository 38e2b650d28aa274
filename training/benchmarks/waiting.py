"""Measure whether two processes read shards of RealEstate10K fast enough for steps of 50 ms.

python -m training.benchmarks.waiting [CAPTURE ...] [--steps 400] [--workers 2]

Captures are written as clips and converted to shards of 256 px in a temporary folder; batches are
of 4 scenes of 4 views at 256x256. It prints one JSON object, see `training.benchmarks.data`:
`waiting` is the fraction of the time, and `peak_mb_trainer` and `peak_mb_worker` are bounded if
they are the same after 400 and 10,000 steps (9 minutes).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from recon.files import temporary_folder
from recon.reporting import say
from training.benchmarks.data import bench_data
from training.config import TrainConfig, read_config
from training.data.shards.convert import convert
from training.data.shards.pack import ConvertOptions
from training.data.write_clips import write_clips
from training.programs import program

SIDE, STEP_S = 256, 0.05
# Photos that come with the source tree.
PHOTOS = Path(__file__).resolve().parents[2] / "assets" / "city"


def bench_waiting(captures: Sequence[Path], steps: int, workers: int) -> dict[str, object]:
    """Return what `bench_data` finds for shards of these captures.

    Raises:
        ReconError: A capture cannot be read or has no cameras.
    """
    with temporary_folder() as folder:
        write_clips(captures, folder / "clips", side=SIDE)
        convert(folder / "clips" / "train", folder / "shards", ConvertOptions(SIDE))
        return bench_data(_config(folder / "shards", workers), steps, STEP_S)


def _config(shards: Path, workers: int) -> TrainConfig:
    """Return a run on shards alone: two context views, two targets, frames near each other."""
    values = {
        "dataset.procedural.weight": 0, "dataset.realestate10k.weight": 1,
        "dataset.realestate10k.folder": shards, "dataset.realestate10k.gap": "[3, 6]",
        "dataset.width": SIDE, "dataset.height": SIDE, "dataset.batch": 4,
        "dataset.context": "[2, 2]", "dataset.targets": 2, "workers": workers,
    }  # fmt: skip
    return read_config(None, [f"{key}={value}" for key, value in values.items()])


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for; exit with code 2 on a user error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", type=Path, nargs="*", default=[PHOTOS], metavar="CAPTURE")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    say(json.dumps(bench_waiting(options.captures, options.steps, options.workers)))


if __name__ == "__main__":
    main()
