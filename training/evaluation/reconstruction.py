"""Held-out quality: reconstruct from context photos, render the targets, compare.

Protocol: targets are undistorted and scaled as the context photos are; pixels that
come from outside the photo do not count; what a photo's mask or alpha leaves out is
black in the photo, and whatever is rendered there counts as an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture import Capture, load_capture, load_views
from recon.capture.cameras import transform_frame
from recon.capture.sfm import SolveConfig
from recon.config import OptimiseConfig, ReconstructConfig
from recon.devices import render_device_of
from recon.pipeline import reconstruct
from recon.types import StageProgress, Views
from render import Gaussians, rasterize
from training.evaluation import metrics
from training.evaluation.camera_poses import solve_again
from training.evaluation.suite import Case, Split, read_split

METRICS: dict[str, Callable[..., float | None]] = {
    "psnr": metrics.psnr,
    "psnr_exposure_fitted": metrics.psnr_exposure_fitted,
    "ssim": metrics.ssim,
    "st_lpips": metrics.st_lpips,
}


@dataclass(frozen=True)
class CaseResult:
    """Scores of one capture and split, or of one film: method -> target -> metric -> value."""

    case: Case
    settings: ReconstructConfig
    scores: dict[str, dict[str, dict[str, float | None]]]
    pictures: dict[str, Float[Tensor, "v 3 h w"]]
    """Method (and "photo") -> pictures of all targets; empty for films."""
    gaussians: int
    suite: str = ""
    """Name of the test set that this is one of many scenes of."""

    def mean(self, method: str, metric: str) -> float | None:
        """Mean over the targets; None where the metric is not available."""
        values = [scores[metric] for scores in self.scores[method].values()]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        means = {m: {k: self.mean(m, k) for k in METRICS} for m in self.scores}
        return {
            "suite": self.suite,
            "capture": self.case.capture.name,
            "split": self.case.split,
            "cameras": "solve" if self.settings.poses.source == "solve" else "given",
            "model": self.settings.model,
            "resolution": self.settings.views.resolution,
            "steps": self.settings.optimise.steps,
            "seconds": self.settings.optimise.seconds,
            "simplify": self._fraction_removed(),
            "seed": self.settings.seed,
            "gaussians": self.gaussians,
            "mean": means,
            "targets": self.scores,
        }

    def _fraction_removed(self) -> float:
        """Return the fraction that was to be removed: none without an optimisation."""
        return self.settings.simplify.fraction if self.settings.optimise.steps else 0.0


def evaluate_cases(
    cases: Sequence[Case],
    settings: ReconstructConfig,
    progress: StageProgress,
) -> list[CaseResult]:
    """Evaluate the cases one after the other."""
    results = []
    for i, case in enumerate(cases):
        progress(f"evaluating {case.capture.name} {case.split}", i / len(cases))
        results.append(evaluate_case(case, settings))
    return results


@torch.no_grad()
def evaluate_case(case: Case, settings: ReconstructConfig) -> CaseResult:
    """Reconstruct, render the targets and score the model and both baselines."""
    capture = load_capture(case.capture)
    if settings.poses.source == "solve":
        capture = _solved(capture, settings)
    split = read_split(capture, case.split)
    # All of a split's context photos are used, however many.
    views = replace(settings.views, max_views=max(len(split.context), 2))
    settings = replace(settings, views=views)
    context_capture = replace(capture, frames=split.context)
    given = replace(settings, poses=replace(settings.poses, source="given"))
    scene = reconstruct(context_capture, given)
    flat = reconstruct(
        context_capture,
        replace(given, model="constant-depth", optimise=OptimiseConfig(steps=0)),
    )
    context, targets = context_and_targets(capture, split, settings)
    return judge(case, settings, (scene.gaussians, flat.gaussians), context, targets)


def _solved(capture: Capture, settings: ReconstructConfig) -> Capture:
    """The capture with the cameras that are found for all its photos as if none were given, held
    out ones, too (of those nothing else is used), in the given frame by the Sim3 that fits best.

    A given camera is not where the solver would see the same photo from: a pixel of difference
    would count more than all that a scene gets wrong.
    """
    solved, transform = solve_again(capture, SolveConfig(settings.seed, settings.poses.cache))
    frames = tuple(transform_frame(f, transform) for f in solved.capture.frames)
    return replace(capture, frames=frames)


def judge(
    case: Case,
    settings: ReconstructConfig,
    made: tuple[Gaussians, Gaussians],
    context: Views,
    targets: Views,
) -> CaseResult:
    """Scores of what the model and the constant depth made of the context, and of the nearest
    photo."""
    pictures = {
        settings.model: render_targets(made[0], targets),
        "nearest photo": _nearest_photos(context, targets),
        "constant depth": render_targets(made[1], targets),
    }
    scores = {method: _score(shown, targets) for method, shown in pictures.items()}
    pictures["photo"] = targets.images
    return CaseResult(case, settings, scores, pictures, len(made[0]))


def context_and_targets(
    capture: Capture, split: Split, settings: ReconstructConfig
) -> tuple[Views, Views]:
    """Context and target views, all of one size."""
    count = len(split.context)
    views = load_views(split.context + split.target, resolution=settings.views.resolution)
    return views[:count], views[count:]


def render_targets(made: Gaussians, targets: Views) -> Float[Tensor, "v 3 h w"]:
    """The targets' pictures, clipped to [0, 1], on the CPU."""
    device = render_device_of(made.device)
    gaussians, cameras = made.to(device), targets.cameras.to(device)
    shown = [rasterize(gaussians, cameras[[i]]).rgb for i in range(len(cameras))]
    return torch.cat(shown).clamp(0, 1).cpu()


def mean_psnr(made: Gaussians, targets: Views) -> float:
    """Of the targets' pictures (dB)."""
    triples = zip(render_targets(made, targets), targets.images, targets.valid, strict=True)
    scores = [metrics.psnr(*each) for each in triples]
    return sum(scores) / len(scores)


def _nearest_photos(context: Views, targets: Views) -> Float[Tensor, "v 3 h w"]:
    """For each target the context photo taken from the nearest place, as it is."""
    distance = torch.cdist(targets.cameras.centers, context.cameras.centers)
    return context.images[distance.argmin(1)]


def _score(shown: Float[Tensor, "v 3 h w"], targets: Views) -> dict[str, dict[str, float | None]]:
    triples = zip(targets.names, shown, targets.images, targets.valid, strict=True)
    return {
        name: {metric: function(s, p, valid) for metric, function in METRICS.items()}
        for name, s, p, valid in triples
    }
