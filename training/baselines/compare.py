"""Comparison with 3DGS-MCMC, optimised for the same time as recon takes and for multiples of it.

python -m training.baselines.compare configs/captures.yaml --times 1 10 --json compare.json

With --budgets, recon and the baseline each get the same total times instead (s).

python -m training.baselines.compare configs/whole_captures.yaml --budgets 60 180 600 --plot a.png
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recon.capture import load_capture
from recon.config import OptimiseConfig, ReconstructConfig
from recon.files import atomic_output
from recon.model.registry import build_model
from recon.pipeline import finish_scene, predict_for_scene, reconstruct_views
from recon.reporting import say
from recon.types import Model, Prediction, Views
from render import Gaussians
from training.baselines.gsplat_mcmc import McmcConfig, optimise_mcmc
from training.baselines.initialisation import (
    random_points,
    random_subset,
    sfm_points,
    surface_points,
)
from training.evaluation.captures import context_and_targets
from training.evaluation.scoring import mean_psnr
from training.evaluation.suite import Case, read_split, read_suite
from training.programs import check_outputs, program, table_lines, write_numbers

PREDICTED, RANDOM, SFM = "predicted points", "random points", "SfM points"
# Number of Gaussians that the baseline grows to from points of COLMAP, which are few.
MAX_FROM_SFM = 200_000
STARTS = (PREDICTED, RANDOM, SFM)
"""Initial points: positions and colours of the prediction, random ones, or those of COLMAP."""


@dataclass(frozen=True)
class CompareConfig:
    """Settings of the comparison."""

    times: tuple[float, ...] = (1.0, 10.0)
    """Time limits of the baseline, as multiples of the time that recon takes."""
    starts: tuple[str, ...] = (PREDICTED, RANDOM)
    """Initial points of the baseline."""
    random_count: int = 200_000
    """Number of random points."""
    budgets: tuple[float, ...] = ()
    """Total times (s) of both, instead of `times`."""


@dataclass(frozen=True)
class Subject:
    """The views of a case, and what is predicted from them."""

    context: Views
    targets: Views
    model: Model
    prediction: Prediction
    seconds: float
    """Time that the prediction took."""

    @staticmethod
    def of(case: Case, recon_config: ReconstructConfig) -> "Subject":
        """Read a case and predict its Gaussians."""
        split = read_split(load_capture(case.capture), case.split)
        context, targets = context_and_targets(split, recon_config.views.resolution)
        model = build_model(recon_config.model)
        began = time.monotonic()
        prediction = predict_for_scene(context, model, recon_config)
        return Subject(context, targets, model, prediction, time.monotonic() - began)


def compare_case(
    case: Case, recon_config: ReconstructConfig, config: CompareConfig
) -> dict[str, Any]:
    """Return the mean PSNR of the held-out targets (dB), steps and times of all methods."""
    subject = Subject.of(case, recon_config)
    context, targets, prediction = subject.context, subject.targets, subject.prediction
    began = time.monotonic()
    scene = finish_scene(prediction, context, recon_config)
    seconds = subject.seconds + time.monotonic() - began
    row: dict[str, Any] = {
        "capture": case.capture.name,
        "split": case.split,
        "seconds": seconds,
        "recon": mean_psnr(scene, targets),
        "baseline": [],
    }
    for start in config.starts:
        points = initial_points(start, subject, recon_config, config)
        for times in config.times:
            found = _baseline(start, points, subject, seconds * times, recon_config)
            row["baseline"].append({"start": start, "times": times, **found})
    return row


def compare_budgets(
    case: Case, recon_config: ReconstructConfig, config: CompareConfig
) -> dict[str, Any]:
    """Return the mean PSNR of the held-out targets (dB) of all methods for the same total times."""
    subject = Subject.of(case, recon_config)
    context, targets = subject.context, subject.targets
    points = {
        start: initial_points(start, subject, recon_config, config) for start in config.starts
    }
    row: dict[str, Any] = {"capture": case.capture.name, "split": case.split, "budgets": []}
    for budget in config.budgets:
        began = time.monotonic()
        scene = reconstruct_views(context, subject.model, replace(recon_config, seconds=budget))
        seconds = time.monotonic() - began
        assert scene.provenance is not None
        row["budgets"].append(
            {
                "budget": budget,
                "seconds": seconds,
                "recon": mean_psnr(scene, targets),
                "recon_steps": scene.provenance.num_steps,
                "baseline": [
                    {"start": start, **_baseline(start, each, subject, budget, recon_config)}
                    for start, each in points.items()
                ],
            }
        )
    return row


def initial_points(
    start: str, subject: Subject, recon_config: ReconstructConfig, config: CompareConfig
) -> Gaussians:
    """Return the Gaussians that the baseline starts from.

    Args:
        start: One of `STARTS`.
        subject: Views and their prediction, of whose points no more are used than recon keeps.
        recon_config: Settings of recon.
        config: Settings of the comparison.
    """
    views = subject.context
    if start == SFM:
        return sfm_points(views)
    if start == RANDOM:
        return random_points(views, config.random_count, recon_config.seed)
    points = surface_points(subject.prediction.gaussians, views)
    side = max(views.cameras.width, views.cameras.height)
    limit = recon_config.simplify.limit(side, len(views))
    return random_subset(points, limit, recon_config.seed)


def _baseline(
    start: str, points: Gaussians, subject: Subject, seconds: float, recon_config: ReconstructConfig
) -> dict[str, Any]:
    """Return PSNR and steps of the baseline after this total time (s).

    The time of the prediction counts where the baseline starts from it. That of COLMAP does not,
    since its points come with the cameras.
    """
    spent = subject.seconds if start == PREDICTED else 0.0
    limit = McmcConfig(
        max(seconds - spent, 0.0),
        max_gaussians=MAX_FROM_SFM if start == SFM else 0,
        seed=recon_config.seed,
    )
    result = optimise_mcmc(points, subject.context, limit)
    psnr = mean_psnr(result.gaussians, subject.targets)
    return {"steps": result.steps, "psnr": psnr, "gaussians": len(result.gaussians)}


def as_lines(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of PSNR and, for the baseline, the number of steps."""
    if "budgets" in rows[0]:
        return _budget_lines(rows)
    names = [f"{each['start']}, {each['times']:g}x" for each in rows[0]["baseline"]]
    head = ["capture", "split", "s", "recon", *names]
    lines = [
        [row["capture"], row["split"], f"{row['seconds']:.1f}", f"{row['recon']:.2f}"]
        + [_cell(each) for each in row["baseline"]]
        for row in rows
    ]
    return "\n".join(table_lines(head, lines))


def _budget_lines(rows: list[dict[str, Any]]) -> str:
    names = [each["start"] for each in rows[0]["budgets"][0]["baseline"]]
    head = ["capture", "split", "budget, s", "taken, s", "recon", *names]
    lines = [
        [row["capture"], row["split"], f"{each['budget']:g}", f"{each['seconds']:.0f}"]
        + [f"{each['recon']:.2f} ({each['recon_steps']})"]
        + [_cell(other) for other in each["baseline"]]
        for row in rows
        for each in row["budgets"]
    ]
    return "\n".join(table_lines(head, lines))


def _cell(baseline: dict[str, Any]) -> str:
    return f"{baseline['psnr']:.2f} ({baseline['steps']})"


def save_plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the PSNR of both methods over the total time, one panel for each case.

    Args:
        rows: Rows of `compare_budgets`.
        path: Image file to write.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(rows))
    count = -(-len(rows) // columns)
    figure = Figure(figsize=(3 * columns, 2.4 * count), layout="constrained")
    panels = figure.subplots(count, columns, squeeze=False).flat
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    for panel, row in zip(panels, rows, strict=False):
        found = row["budgets"]
        seconds = [each["budget"] for each in found]
        panel.plot(seconds, [each["recon"] for each in found], "o-", label="recon")
        for i, baseline in enumerate(found[0]["baseline"]):
            psnr = [each["baseline"][i]["psnr"] for each in found]
            panel.plot(seconds, psnr, "s--", label=f"3DGS-MCMC from {baseline['start']}")
        panel.set(title=f"{row['capture']} {row['split']}", xscale="log")
        panel.set_xticks(seconds, [f"{each:g}" for each in seconds], minor=False)
        panel.minorticks_off()
    figure.supxlabel("total time, s")
    figure.supylabel("held-out PSNR, dB")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    with atomic_output(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


@program
def main(words: Sequence[str] | None = None) -> None:
    """Compare the cases of a suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--times", type=float, nargs="+", default=CompareConfig.times)
    parser.add_argument("--budgets", type=float, nargs="*", default=[], help="total times, s")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=CompareConfig.starts)
    parser.add_argument("--only", nargs="*", default=[], help="cases: fox, fox/4v")
    parser.add_argument("--steps", type=int, default=OptimiseConfig.steps, help="steps of recon")
    parser.add_argument("--seconds", type=float, help="time limit of recon instead of steps")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG file, with --budgets")
    options = parser.parse_args(words)
    if options.plot and not options.budgets:
        parser.error("--plot needs --budgets")
    check_outputs(options.json, options.plot)
    optimise_config = OptimiseConfig(options.steps)
    if options.seconds is not None:
        optimise_config = OptimiseConfig.for_seconds(options.seconds)
    recon_config = ReconstructConfig(optimise=optimise_config)
    config = CompareConfig(
        tuple(options.times), tuple(options.starts), budgets=tuple(options.budgets)
    )
    compare = compare_budgets if config.budgets else compare_case
    rows = []
    for case in read_suite(options.suite).select(options.only):
        rows.append(compare(case, recon_config, config))
        say("\n".join(as_lines(rows[-1:]).splitlines()[2:]))
        write_numbers(rows, options.json)
    say(as_lines(rows))
    if options.plot:
        save_plot(rows, options.plot)


if __name__ == "__main__":
    main()
