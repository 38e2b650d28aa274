"""A RealEstate10K test set by pixelSplat's evaluation index."""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from recon.config import OptimiseConfig, ReconstructConfig
from recon.devices import choose_device
from recon.errors import InputError
from recon.model.registry import build_model
from recon.pipeline import finish_scene, predict
from recon.types import StageProgress, Views
from render import Cameras
from training.data.realestate10k import EvaluationItem, evaluation_views, read_evaluation_index
from training.data.types import Skipped
from training.evaluation.reconstruction import CaseResult, judge
from training.evaluation.suite import Case, Films

SUITE = "RealEstate10K"


@torch.no_grad()
def evaluate_films(
    films: Films, settings: ReconstructConfig, progress: StageProgress
) -> tuple[list[CaseResult], Skipped]:
    """Every scene of the index that is there and whole, and what was skipped; ReconError when
    none is."""
    skipped = Skipped()
    items = read_evaluation_index(Path(films.index), skipped)
    items = items[: films.limit or len(items)]
    device = choose_device(settings.device)
    flat = replace(settings, model="constant-depth", optimise=OptimiseConfig(steps=0))
    methods = [(build_model(chosen.model), chosen) for chosen in (settings, flat)]
    results: list[CaseResult] = []
    size = (films.width, films.height)
    for item, images, cameras in evaluation_views(Path(films.folder), items, *size, skipped):
        progress(f"evaluating {item.key}", len(results) / len(items))
        context, targets = _views(item, images, cameras, films)
        given = context.to(device)
        made = [
            finish_scene(predict(given, model), given, chosen).gaussians
            for model, chosen in methods
        ]
        case = Case(Path(item.key), "index")
        result = judge(case, settings, (made[0], made[1]), context, targets)
        # Thousands of scenes: their pictures would not fit into memory.
        results.append(replace(result, pictures={}, suite=SUITE))
    if not results:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in skipped.reasons.items())
        raise InputError(f"no scene of {films.index} could be read in {films.folder}: {reasons}")
    return results, skipped


def _views(
    item: EvaluationItem, images: Float[Tensor, "v 3 h w"], cameras: Cameras, films: Films
) -> tuple[Views, Views]:
    """Context and targets; the depth range is given in baselines, as pixelSplat does."""
    count = len(item.context)
    centers = cameras.centers[:count]
    baseline = float((centers[-1] - centers[0]).norm())
    bounds = torch.tensor([films.near, films.far]) * max(baseline, 1e-6)
    whole = torch.ones_like(images[:, :1])
    names = tuple(f"{item.key}/{frame}" for frame in (*item.context, *item.target))
    views = Views(images, whole, whole, cameras, names, bounds.expand(len(images), 2))
    return views[:count], views[count:]
