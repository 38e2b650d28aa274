"""Development scores of a campaign: the averaged weights on captures that are never trained on."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recon.config import OptimiseConfig, ReconstructConfig
from recon.errors import ReconError
from recon.files import atomic_output
from training.campaign.recipe import ScoresConfig, Stage
from training.evaluation.benchmark import evaluate
from training.evaluation.captures import EvaluateConfig
from training.evaluation.methods import recon_method
from training.evaluation.suite import read_suite
from training.metrics_logger import Report
from training.programs import table_lines
from training.run_folder import WEIGHTS

ROWS, TABLE = "scores.jsonl", "scores.md"
Evaluator = Callable[[Path, ScoresConfig, str], Mapping[str, float]]
"""Evaluates a checkpoint; returns the PSNR (dB) of every case by name."""


class DevelopmentScores:
    """Evaluates the checkpoints of a campaign and writes scores.jsonl and scores.md.

    Args:
        folder: Folder of the campaign.
        config: When and on what to evaluate.
        report: Receives lines of text for the user.
        evaluator: Function that evaluates a checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        config: ScoresConfig,
        report: Report,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.folder, self.config, self.report = folder, config, report
        self.evaluator = evaluator or psnr_of_checkpoint
        self._available: bool | None = None if config.suite else False

    def update(self, stage: Stage, step: int, scenes: int) -> None:
        """Evaluate the stage's checkpoint of this step if it is due.

        Args:
            stage: Stage that has just saved.
            step: Its step.
            scenes: Number of scenes of the campaign up to this step.
        """
        if self._is_due(stage, step) and self._captures_exist():
            self._add(stage, step, scenes)

    def _is_due(self, stage: Stage, step: int) -> bool:
        done = max((r["step"] for r in self.rows() if r["stage"] == stage.name), default=0)
        every = self.config.every
        at_end = step == stage.config.optimiser.steps
        return step > done and (at_end or (every > 0 and step // every > done // every))

    def _captures_exist(self) -> bool:
        """Return whether the captures are there; say so once if they are not."""
        if self._available is None:
            try:
                cases = read_suite(Path(self.config.suite)).select(self.config.only)
                missing = [case.capture for case in cases if not case.capture.is_dir()]
                problem = f"no {missing[0]}" if missing else None
            except ReconError as error:
                problem = str(error)
            self._skip(problem)
        return bool(self._available)

    def _skip(self, problem: str | None) -> None:
        self._available = problem is None
        if problem is not None:
            self.report(f"development scores are skipped: {problem}")

    def _add(self, stage: Stage, step: int, scenes: int) -> None:
        try:
            scores = self.evaluator(stage.folder / WEIGHTS, self.config, stage.config.device)
        except ReconError as error:
            self._skip(str(error))
            return
        row = {
            "stage": stage.name,
            "step": step,
            "scenes": scenes,
            "resolution": self.config.resolution,
            "psnr": {name: round(value, 3) for name, value in scores.items()},
        }
        rows = [*self.rows(), row]
        with atomic_output(self.folder / ROWS) as temporary:
            temporary.write_text("".join(json.dumps(each) + "\n" for each in rows))
        with atomic_output(self.folder / TABLE) as temporary:
            temporary.write_text(as_table(rows))
        self.report(f"development scores at step {step}: {_summary(scores)}")

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows so far."""
        path = self.folder / ROWS
        return [json.loads(line) for line in path.open()] if path.is_file() else []


def psnr_of_checkpoint(path: Path, config: ScoresConfig, device: str) -> dict[str, float]:
    """Return the PSNR of a network alone, without optimisation, for every case of a suite (dB).

    Raises:
        ReconError: The suite, a capture or the checkpoint cannot be read.
    """
    network = recon_method(
        ReconstructConfig(model=str(path), optimise=OptimiseConfig(steps=0), device=device)
    )
    suite = read_suite(Path(config.suite))
    chosen = replace(suite, cases=suite.select(config.only), realestate10k=None)
    results = evaluate(
        {"network": network}, chosen, EvaluateConfig(config.resolution, device=device), False
    )
    means = {case.case.name: case.mean("network", "psnr") for case in results.cases}
    return {name: value for name, value in means.items() if value is not None}


def means_by_split(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the mean PSNR of every split over its captures, and of all cases as "all"."""
    groups: dict[str, list[float]] = {}
    for name, value in scores.items():
        groups.setdefault(name.rpartition("/")[2], []).append(value)
    groups = {**dict(sorted(groups.items())), "all": list(scores.values())}
    return {split: sum(values) / len(values) for split, values in groups.items()}


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table with one row per checkpoint: means by split, then every case."""
    cases = list(dict.fromkeys(name for row in rows for name in row["psnr"]))
    splits = list(means_by_split(rows[-1]["psnr"]))
    head = ["stage", "step", "scenes", *splits, *cases]
    lines = []
    for row in rows:
        values = {**row["psnr"], **means_by_split(row["psnr"])}
        numbers = [f"{values[name]:.2f}" if name in values else "-" for name in (*splits, *cases)]
        lines.append([row["stage"], str(row["step"]), str(row["scenes"]), *numbers])
    size = f"{rows[-1]['resolution']} px"
    title = f"PSNR (dB) of the network alone on the development captures, {size}\n"
    return "\n".join([title, *table_lines(head, lines)]) + "\n"


def _summary(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{split} {value:.2f} dB" for split, value in means_by_split(scores).items())
