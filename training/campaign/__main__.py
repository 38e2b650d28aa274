"""Run or continue a campaign.

python -m training.campaign --config configs/bundled.yaml --minutes 30
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon.devices import choose_device
from recon.errors import ReconError
from recon.reporting import say
from training.campaign.launch import is_launched, launch
from training.campaign.recipe import read_recipe
from training.campaign.run import position, run_campaign
from training.campaign.stopping import StopRequest


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    try:
        return _run(arguments)
    except ReconError as error:
        sys.stderr.write(f"campaign: error: {error}\n")
        return 2


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    stop = StopRequest(options.minutes)
    recipe = read_recipe(options.config, options.assignments, _common(options))
    if options.processes > 1 and not is_launched():
        on_cpu = choose_device(recipe.stages[0].config.device).type == "cpu"
        return launch(arguments, options.processes, on_cpu)
    main_process = os.environ.get("RANK", "0") == "0"
    report = say if main_process else lambda line: None
    with stop.on_signals():
        complete = run_campaign(recipe, stop, report)
    name, step, scenes = position(recipe)
    report(f"stage {name}, step {step}, {scenes} scenes so far")
    if complete:
        report(f"campaign complete: {recipe.out / name}")
    else:
        report(f"stopped ({stop.reason}); run the same command again to go on")
    return 0


def _common(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of every stage that have an option of their own."""
    names = ("out", "device", "workers", "init")
    given = {name: getattr(options, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.campaign", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, default=Path("configs/bundled.yaml"), help="file with stages")
    add("--out", help="folder of the campaign; default: that of the file")
    add("--minutes", type=_positive, help="save and stop after this time")
    add("--device", choices=("auto", "cpu", "cuda"))
    add("--processes", type=int, default=1, help="processes that split the scenes of a step")
    add("--workers", type=int, help="processes that make scenes in advance")
    add("--init", help="checkpoint from which the first stage starts")
    add("assignments", nargs="*", metavar="KEY=VALUE", help="fields of all stages, or of one by "
        "stages.NAME.key=value")  # fmt: skip
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 minutes, found {text}")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
