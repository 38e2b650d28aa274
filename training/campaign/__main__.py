"""Run or continue a campaign, or export its weights.

python -m training.campaign --config configs/bundled.yaml --minutes 30
python -m training.campaign export OUT.safetensors --config configs/bundled.yaml --note TEXT
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon.cores import allowed_cores
from recon.devices import choose_device
from recon.errors import ReconError
from recon.overlay import merge_mappings
from recon.reporting import say
from training.campaign.export import export_campaign
from training.campaign.launch import is_launched, launch
from training.campaign.recipe import Recipe, ScoresConfig, read_recipe
from training.campaign.run import Campaign, CampaignOptions
from training.campaign.scores import DevelopmentScores
from training.campaign.stopping import StopRequest
from training.config import parse_assignment

DEFAULT = Path("configs/bundled.yaml")
# Command line option -> field of every stage.
FIELDS = ("out", "device", "workers", "init")


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    try:
        if arguments[:1] == ["export"]:
            return _export(arguments[1:])
        return _run(arguments)
    except ReconError as error:
        sys.stderr.write(f"campaign: error: {error}\n")
        return 2


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    stop = StopRequest(options.minutes)
    recipe, on_cpu = _recipe(options)
    if options.processes > 1 and not is_launched():
        return launch(arguments, options.processes, on_cpu)
    main_process = os.environ.get("RANK", "0") == "0"
    report = say if main_process else lambda line: None
    scores = DevelopmentScores(
        recipe.out, recipe.evaluate if main_process else ScoresConfig(), report
    )
    grow = options.batch == "auto" or (options.batch is None and not on_cpu)
    campaign = Campaign(recipe, CampaignOptions(options.publish, grow), report, scores)
    with stop.on_signals():
        complete = campaign.run(stop)
    name, step, scenes = campaign.position()
    report(f"stage {name}, step {step}, {scenes} scenes so far")
    if complete:
        report(f"campaign complete: {recipe.out / name}")
    else:
        report(f"stopped ({stop.reason}); run the same command again to go on")
    return 0


def _recipe(options: argparse.Namespace) -> tuple[Recipe, bool]:
    """Return the campaign, and whether it runs on the CPU."""
    given = {name: getattr(options, name) for name in FIELDS}
    common: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    recipe = read_recipe(options.config, options.assignments, common)
    if choose_device(recipe.stages[0].config.device).type == "cpu":
        return recipe, True
    # A GPU waits for scenes that one process makes, and its matrix units need bf16.
    workers = max(1, allowed_cores() - 1)
    common = {"workers": workers, "precision": "bf16", **common}
    return read_recipe(options.config, options.assignments, common), False


def _export(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.campaign export")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--config", type=Path, default=DEFAULT, help="file with stages")
    parser.add_argument("--out", help="folder of the campaign; default: that of the file")
    parser.add_argument("--note", default="", help="text for the header")
    text = "fields of the network that change no shape of its weights"
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help=text)
    options = parser.parse_intermixed_args(arguments)
    recipe = read_recipe(options.config, (), {"out": options.out} if options.out else {})
    changes: dict[str, Any] = {}
    for assignment in options.changes:
        changes = merge_mappings(changes, parse_assignment(assignment))
    provenance = export_campaign(recipe, options.target, options.note, changes)
    say(f"wrote {options.target}: {provenance['scenes']} scenes, "
        f"{len(provenance['stages'])} of {len(recipe.stages)} stages")  # fmt: skip
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.campaign",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", type=Path, default=DEFAULT, help="file with stages")
    add("--out", help="folder of the campaign; default: that of the file")
    add("--minutes", type=_positive, help="save and stop after this time")
    add("--device", choices=("auto", "cpu", "cuda"))
    add("--processes", type=_count, default=1, help="processes that split the scenes of a step")
    add("--workers", type=int, help="processes that make scenes in advance; default: 0 on a CPU, "
        "one less than there are cores with a GPU")  # fmt: skip
    add("--init", help="checkpoint, or published folder, from which the first stage starts")
    add("--publish", type=Path, metavar="FOLDER", help="at each save, also write weights in files "
        "under 15 MiB, metrics, plot and scores there")  # fmt: skip
    add("--batch", choices=("auto", "file"), help="auto: grow the batch until the GPU is full "
        "(default with a GPU); file: as the file says")  # fmt: skip
    add("assignments", nargs="*", metavar="KEY=VALUE", help="fields of all stages, or of one by "
        "stages.NAME.key=value")  # fmt: skip
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 minutes, found {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 process, found {text}")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
