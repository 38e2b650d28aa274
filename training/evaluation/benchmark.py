"""Evaluation of any method on a suite of captures and clips."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recon.types import StageProgress
from training.data.types import Skipped
from training.evaluation.captures import EvaluateConfig, evaluate_case
from training.evaluation.methods import Method, as_mapping, constant_depth
from training.evaluation.realestate10k import evaluate_clips
from training.evaluation.report import as_table
from training.evaluation.scoring import CaseResult
from training.evaluation.suite import Suite

CONSTANT_DEPTH = "constant depth"


@dataclass(frozen=True)
class Evaluation:
    """Results of all scenes of a suite."""

    cases: list[CaseResult]
    skipped: Skipped = field(default_factory=Skipped)
    """Clips of a test set that could not be read."""

    def table(self) -> str:
        """Return the results as a Markdown table."""
        return as_table(self.cases)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON: `cases`, and `skipped` for a test set."""
        document: dict[str, Any] = {}
        if any(case.suite for case in self.cases):
            document["skipped"] = dict(self.skipped.reasons)
        return {**document, "cases": [case.as_dict() for case in self.cases]}


def evaluate(
    methods: Method | Mapping[str, Method],
    suite: Suite,
    config: EvaluateConfig | None = None,
    baselines: bool = True,
    progress: StageProgress = lambda stage, fraction: None,
) -> Evaluation:
    """Evaluate methods on the held-out views of a suite.

    Example:
        evaluate(lambda views: recon.reconstruct(views), read_suite(Path("suite.yaml"))).table()

    Args:
        methods: Function from context views to Gaussians or a Scene in the frame of their cameras,
            or several of them by name. They get the views on the CPU.
        suite: Captures and splits, and optionally a RealEstate10K test set (see `read_suite`).
        config: Resolution and cameras of the captures.
        baselines: Also score the nearest context photo and a constant depth.
        progress: Called with the name of the scene and the completed fraction.

    Raises:
        InputError: A capture, a split or the whole test set cannot be read.
    """
    chosen = as_mapping(methods)
    config = config or EvaluateConfig()
    compared = {CONSTANT_DEPTH: constant_depth(config.device)} if baselines else {}
    results = []
    for i, case in enumerate(suite.cases):
        progress(f"evaluating {case.capture.name} {case.split}", i / len(suite.cases))
        results.append(evaluate_case(case, chosen, config, compared))
    if suite.realestate10k is None:
        return Evaluation(results)
    clips, skipped = evaluate_clips(suite.realestate10k, chosen, compared, progress)
    return Evaluation(results + clips, skipped)
