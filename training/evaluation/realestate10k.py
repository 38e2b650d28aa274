"""Evaluation on RealEstate10K by pixelSplat's evaluation index."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from recon.errors import InputError
from recon.types import StageProgress, Views
from render import Cameras
from training.data.realestate10k import EvaluationItem, evaluation_views, read_evaluation_index
from training.data.types import Skipped
from training.evaluation.methods import Method
from training.evaluation.scoring import CaseResult, score_case
from training.evaluation.suite import Case, RealEstate10KBenchmark

SUITE = "RealEstate10K"


@torch.no_grad()
def evaluate_clips(
    benchmark: RealEstate10KBenchmark,
    methods: Mapping[str, Method],
    baselines: Mapping[str, Method],
    progress: StageProgress = lambda stage, fraction: None,
) -> tuple[list[CaseResult], Skipped]:
    """Evaluate every clip of the index that is available and undamaged.

    Returns:
        Results, without images (thousands of clips would not fit into memory), and the number of
        skipped clips by reason.

    Raises:
        InputError: No clip of the index can be read.
    """
    skipped = Skipped()
    items = read_evaluation_index(Path(benchmark.index), skipped)
    items = items[: benchmark.limit or len(items)]
    folder, size = Path(benchmark.folder), (benchmark.width, benchmark.height)
    settings = {"cameras": "given", "resolution": max(size)}
    results: list[CaseResult] = []
    for item, images, cameras in evaluation_views(folder, items, *size, skipped):
        progress(f"evaluating {item.key}", len(results) / len(items))
        context, targets = _views(item, images, cameras, benchmark)
        case = Case(Path(item.key), "index")
        result = score_case(case, methods, baselines, context, context, targets, settings)
        results.append(replace(result, images={}, suite=SUITE))
    if not results:
        reasons = skipped or "it lists none"
        raise InputError(f"no clip of {benchmark.index} could be read in {folder}: {reasons}")
    return results, skipped


def _views(
    item: EvaluationItem,
    images: Float[Tensor, "v 3 h w"],
    cameras: Cameras,
    benchmark: RealEstate10KBenchmark,
) -> tuple[Views, Views]:
    """Return context and targets, with a depth range in baselines as in pixelSplat."""
    count = len(item.context)
    centers = cameras.centers[:count]
    baseline = float((centers[-1] - centers[0]).norm())
    bounds = torch.tensor([benchmark.near, benchmark.far]) * max(baseline, 1e-6)
    ones = torch.ones_like(images[:, :1])
    names = tuple(f"{item.key}/{frame}" for frame in (*item.context, *item.target))
    views = Views(images, ones, ones, cameras, names, bounds.expand(len(images), 2))
    return views[:count], views[count:]
