"""Scores of one scene: renders of the target views against the held-out images.

Protocol: pixels outside the photo do not count. Pixels that a photo's mask or alpha excludes are
black in the target image, and whatever is rendered there counts as an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from recon.devices import render_device_of
from recon.scene import Scene
from recon.types import Views
from render import Gaussians, RasterizeSettings, rasterize
from training.evaluation import metrics
from training.evaluation.methods import Method
from training.evaluation.suite import Case

METRICS: dict[str, Callable[..., float | None]] = {
    "psnr": metrics.psnr,
    "psnr_exposure_fitted": metrics.psnr_exposure_fitted,
    "ssim": metrics.ssim,
    "st_lpips": metrics.st_lpips,
    "lpips": metrics.lpips,
}
NEAREST_PHOTO = "nearest photo"
Scores = dict[str, float | None]


@dataclass(frozen=True)
class CaseResult:
    """Scores of one capture and split, or of one clip of a test set."""

    case: Case
    methods: tuple[str, ...]
    """Names of the evaluated methods, without the baselines."""
    scores: dict[str, dict[str, Scores]]
    """method (baselines included) -> target -> metric -> value."""
    images: dict[str, Float[Tensor, "v 3 h w"]]
    """Renders of all targets by method, and the targets themselves as "photo"; empty for clips."""
    num_gaussians: dict[str, int]
    """Number of Gaussians by method."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the first method, as far as its scene records them."""
    suite: str = ""
    """Name of the test set of which this is one of many scenes; "" for a capture."""

    @property
    def method(self) -> str:
        """Name of the first evaluated method."""
        return self.methods[0]

    def mean(self, method: str, metric: str) -> float | None:
        """Return the mean over the targets; None where the metric is not available."""
        return mean_or_none([scores[metric] for scores in self.scores[method].values()])

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the images, for JSON."""
        return {
            "suite": self.suite,
            "capture": self.case.capture.name,
            "split": self.case.split,
            **self.settings,
            "gaussians": self.num_gaussians[self.method],
            "mean": {m: {k: self.mean(m, k) for k in METRICS} for m in self.scores},
            "targets": self.scores,
        }


def mean_or_none(values: list[float | None]) -> float | None:
    """Return the mean, or None when a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def score_case(
    case: Case,
    methods: Mapping[str, Method],
    baselines: Mapping[str, Method],
    inputs: Views,
    context: Views,
    targets: Views,
    settings: Mapping[str, Any],
) -> CaseResult:
    """Run methods and baselines on the context and score them on the targets.

    Args:
        case: The capture and split, or clip.
        methods: The methods by name.
        baselines: Methods to compare with, by name; unless there are none, the nearest photo too.
        inputs: Context views that the methods get.
        context: The same views, padded to the size of the targets.
        targets: The held-out views.
        settings: Further settings to record with the result.
    """
    made = {name: method(inputs) for name, method in {**methods, **baselines}.items()}
    images = {name: render_targets(each, targets) for name, each in made.items()}
    names = (*methods, NEAREST_PHOTO, *baselines) if baselines else tuple(methods)
    if baselines:
        images[NEAREST_PHOTO] = _nearest_photos(context, targets)
    images = {name: images[name] for name in names}
    scores = {name: _score(renders, targets) for name, renders in images.items()}
    first = next(iter(methods))
    return CaseResult(
        case=case,
        methods=tuple(methods),
        scores=scores,
        images={**images, "photo": targets.images},
        num_gaussians={name: len(gaussians_of(each)) for name, each in made.items()},
        settings={**settings, **recorded_settings(first, made[first])},
    )


def recorded_settings(name: str, made: Gaussians | Scene) -> dict[str, Any]:
    """Return what a scene records about how it was made; the name alone for plain Gaussians.

    `simplify` is the fraction that was to be removed, which is 0 without an optimisation;
    `num_steps` is the number of steps that were taken, `steps` the number that was configured.
    """
    if not isinstance(made, Scene) or made.provenance is None:
        return {"model": name}
    provenance = made.provenance
    config = provenance.config
    removed = config.simplify.removed(len(provenance.view_names))
    return {
        "model": name,
        "steps": config.optimise.steps,
        "seconds": config.optimise.seconds,
        "num_steps": provenance.num_steps,
        "simplify": removed if provenance.simplified else 0.0,
        "seed": config.seed,
    }


def gaussians_of(made: Gaussians | Scene) -> Gaussians:
    """Return the Gaussians of a method's output."""
    return made.gaussians if isinstance(made, Scene) else made


def render_targets(
    made: Gaussians | Scene, targets: Views, settings: RasterizeSettings | None = None
) -> Float[Tensor, "v 3 h w"]:
    """Render the targets' cameras, clipped to [0, 1], on the CPU.

    Args:
        made: Gaussians or a scene.
        targets: Views whose cameras are rendered.
        settings: By default those that the scene is for.
    """
    if settings is None:
        settings = RasterizeSettings(antialiased=isinstance(made, Scene) and made.antialiased)
    gaussians = gaussians_of(made)
    device = render_device_of(gaussians.device)
    gaussians, cameras = gaussians.to(device), targets.cameras.to(device)
    images = [
        rasterize(gaussians, cameras[[i]], settings=settings).rgb for i in range(len(cameras))
    ]
    return torch.cat(images).clamp(0, 1).cpu()


def mean_psnr(
    made: Gaussians | Scene, targets: Views, settings: RasterizeSettings | None = None
) -> float:
    """Return the mean PSNR over the targets (dB), rendered as by `render_targets`."""
    renders = render_targets(made, targets, settings)
    triples = zip(renders, targets.images, targets.valid, strict=True)
    scores = [metrics.psnr(*each) for each in triples]
    return sum(scores) / len(scores)


def _nearest_photos(context: Views, targets: Views) -> Float[Tensor, "v 3 h w"]:
    """Return for each target the context image whose camera is nearest."""
    distance = torch.cdist(targets.cameras.centers, context.cameras.centers)
    return context.images[distance.argmin(1)]


def _score(renders: Float[Tensor, "v 3 h w"], targets: Views) -> dict[str, Scores]:
    rows = zip(targets.names, renders, targets.images, targets.valid, strict=True)
    return {
        name: {metric: function(render, image, valid) for metric, function in METRICS.items()}
        for name, render, image, valid in rows
    }
