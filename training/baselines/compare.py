"""Ours against optimisation from scratch, for the same time and for more.

python -m training.baselines.compare configs/captures.yaml --times 1 10 --json compare.json
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.capture import load_capture
from recon.config import OptimiseConfig, ReconstructConfig
from recon.model.registry import build_model
from recon.pipeline import finish_scene, predict
from recon.reporting import say
from render import Gaussians
from training.baselines.gsplat_mcmc import ScratchConfig, optimise
from training.baselines.initialisation import random_points, surface_points
from training.evaluation.reconstruction import context_and_targets, mean_psnr
from training.evaluation.suite import Case, read_split, read_suite

STARTS = ("sweep points", "random points")
"""Points of the prediction, without its other attributes, or nothing known."""


@dataclass(frozen=True)
class CompareConfig:
    """What is compared."""

    times: tuple[float, ...] = (1.0, 10.0)
    """Time for the competitor, in times that ours took."""
    starts: tuple[str, ...] = STARTS
    random_count: int = 200_000
    """Random points."""


def compare_case(case: Case, settings: ReconstructConfig, config: CompareConfig) -> dict[str, Any]:
    """PSNR of the held-out targets, mean, and steps of every way to make the scene."""
    capture = load_capture(case.capture)
    context, targets = context_and_targets(capture, read_split(capture, case.split), settings)
    model = build_model(settings.model)
    began = time.monotonic()
    found = predict(context, model)
    predicted = time.monotonic() - began
    ours = finish_scene(found, context, settings).gaussians
    seconds = time.monotonic() - began
    row: dict[str, Any] = {
        "capture": case.capture.name,
        "split": case.split,
        "seconds": seconds,
        "ours": mean_psnr(ours, targets),
        "scratch": [],
    }
    makers: dict[str, Callable[[], Gaussians]] = {
        STARTS[0]: lambda: surface_points(found.gaussians, context),
        STARTS[1]: lambda: random_points(context, config.random_count, settings.seed),
    }
    for start in config.starts:
        # Whoever starts from the network's points pays for them.
        spent = predicted if start == STARTS[0] else 0.0
        for times in config.times:
            limit = ScratchConfig(max(seconds * times - spent, 0.0), seed=settings.seed)
            rival = optimise(makers[start](), context, limit)
            row["scratch"].append({
                "start": start, "times": times, "steps": rival.steps,
                "psnr": mean_psnr(rival.gaussians, targets),
            })  # fmt: skip
    return row


def as_lines(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    names = [f"{each['start']}, {each['times']:g}x" for each in rows[0]["scratch"]]
    lines = ["| capture | split | s | ours | " + " | ".join(names) + " |"]
    lines.append("|" + "---|" * (4 + len(names)))
    for row in rows:
        cells = [f"{each['psnr']:.2f} ({each['steps']})" for each in row["scratch"]]
        head = [row["capture"], row["split"], f"{row['seconds']:.1f}", f"{row['ours']:.2f}"]
        lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--only", nargs="*", default=[], help="cases: fox, fox/4v")
    parser.add_argument("--steps", type=int, default=OptimiseConfig.steps)
    parser.add_argument("--seconds", type=float, help="time limit of ours instead of steps")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    optimise_config = OptimiseConfig(options.steps)
    if options.seconds is not None:
        optimise_config = OptimiseConfig.for_seconds(options.seconds)
    settings = ReconstructConfig(optimise=optimise_config)
    config = CompareConfig(tuple(options.times), tuple(options.starts))
    rows = []
    for case in read_suite(options.suite).chosen(options.only):
        rows.append(compare_case(case, settings, config))
        say(as_lines(rows[-1:]).splitlines()[-1])
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")
    say(as_lines(rows))


if __name__ == "__main__":
    main()
