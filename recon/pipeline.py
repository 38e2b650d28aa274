"""Photos in, a scene out: capture -> views -> model -> Gaussians."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from recon.capture import Capture, Frame, load_capture, load_views, select_spread
from recon.capture.sfm import PosedCapture, SolveConfig, solve_cameras
from recon.errors import ConfigError, InputError
from recon.model.registry import build_model
from recon.optimise import Watch, optimise, parse_refine, select_num_steps
from recon.settings import ReconstructSettings, check_views
from recon.simplify import SimplifyConfig, importance_order, simplify
from recon.types import Model, StageProgress, Views
from render import Cameras, Gaussians

# Part of a limited time for refinement that may go into finding out how much of it helps.
CHECK_FRACTION = 0.3


@dataclass(frozen=True)
class Scene:
    """A reconstruction, in the frame and scale of the input's cameras (unless the settings want it
    elsewhere)."""

    gaussians: Gaussians
    cameras: Cameras
    """Of the photos that were used, at the size they were used."""
    frames: tuple[Frame, ...]
    """Those photos, with their original cameras."""
    model: str
    """Name of the model that made it."""
    solved: PosedCapture
    """All photos with cameras, and those that none was found for."""

    @property
    def frames_with_cameras(self) -> tuple[Frame, ...]:
        """All photos that were solved; of given ones, those that were used."""
        return self.frames if self.solved.camera_source != "solved" else self.solved.capture.frames

    @property
    def depth_is_guessed(self) -> bool:
        """Whether there was only one photo: nothing to measure depth with."""
        return len(self.frames) == 1


def reconstruct(
    capture: Capture | Path | str,
    settings: ReconstructSettings | None = None,
    progress: StageProgress | None = None,
    watch: Callable[[Gaussians, Capture], None] | None = None,
) -> Scene:
    """Reconstruct a capture, or the folder of one.

    `progress` is told the stage and how much of it is done (0 to 1). `watch` is shown the scene
    while it is made, and the capture with its cameras. ReconError when the input cannot be used.
    """
    settings = settings or ReconstructSettings()
    report = progress or (lambda stage, fraction: None)
    _check_settings(settings)
    device = choose_device(settings.device)
    model = build_model(settings.model)
    if not isinstance(capture, Capture):
        capture = load_capture(Path(capture))
    solved = locate(capture, settings, report).transformed(settings.metric_scale, settings.center)
    capture = solved.capture
    frames = tuple(capture.frames[i] for i in select_spread(capture, settings.max_views))
    report("reading photos", 0.0)
    views = load_views(frames, settings.resolution).to(device)
    report("reading photos", 1.0)
    _check_baseline(capture, views.cameras)
    shown: Watch | None = None if watch is None else (lambda scene: watch(scene, capture))
    gaussians = predict(model, views, settings, report, shown)
    if len(gaussians) == 0:
        raise InputError(
            f"no Gaussians from {capture.title}: the masks leave nothing of the photos"
        )
    report("sorting", 0.0)
    gaussians = gaussians[importance_order(gaussians, views.cameras)]
    return Scene(gaussians, views.cameras, frames, settings.model, solved)


def predict(
    model: Model,
    views: Views,
    settings: ReconstructSettings,
    report: StageProgress,
    watch: Watch | None = None,
) -> Gaussians:
    """The model's Gaussians, pruned and refined as the settings say, where they can be rendered."""
    config = parse_refine(settings.refine)
    found = model(views, lambda fraction: report("finding depth", fraction))
    if watch is not None:
        watch(found.gaussians)
    if config.steps == 0 or len(found.gaussians) == 0:
        return found.gaussians
    device = choose_render_device("auto" if found.gaussians.device.type == "cuda" else "cpu")
    gaussians, source_view, views = (
        found.gaussians.to(device),
        found.source_view.to(device),
        views.to(device),
    )
    config = config.for_num_views(len(views))
    started, check = time.monotonic(), config.with_time_fraction(CHECK_FRACTION)
    prune_fn = partial(simplify, config=SimplifyConfig(fraction=settings.prune))
    steps = select_num_steps(
        gaussians, source_view, views, check, lambda done: report("checking", done), prune_fn
    )
    config = config.remaining(time.monotonic() - started, steps)
    if config.steps == 0:
        return gaussians
    gaussians = prune_fn(gaussians, views.cameras)
    return optimise(
        gaussians, views, config, lambda done: report("refining", done), watch
    ).gaussians


def _check_baseline(capture: Capture, cameras: Cameras) -> None:
    """Depth comes from parallax: the photos must be taken from different places."""
    centers = cameras.centers
    if len(centers) == 1:
        return
    if float((centers - centers[0]).norm(dim=1).max()) <= 1e-6 * float(centers.norm(dim=1).max()):
        raise InputError(
            f"all cameras of {capture.title} stand at the same place; expected photos taken from "
            "different places, since depth comes from the parallax between them"
        )


def choose_device(name: str) -> torch.device:
    """The torch device of a --device choice; ReconError when it is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device='cuda': torch sees no CUDA GPU; use device='cpu' or run recon doctor", "device"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_render_device(name: str) -> torch.device:
    """As `choose_device`, for work that renders: auto takes the GPU only if gsplat runs there."""
    device = choose_device(name)
    if device.type == "cuda":
        from render.backends import cuda

        reason = cuda.unavailable()
        if reason is not None and name == "cuda":
            raise ConfigError(f"device='cuda': {reason}", "device")
        if reason is not None:
            return torch.device("cpu")
    return device


def _check_settings(settings: ReconstructSettings) -> None:
    check_views(settings.max_views, settings.resolution)
    parse_refine(settings.refine)
    if not 0 < settings.metric_scale < math.inf:
        raise ConfigError(
            f"metric_scale must be above 0, got {settings.metric_scale}", "metric_scale"
        )
    if not 0 <= settings.prune < 1:
        raise ConfigError(
            f"prune must be a fraction of the Gaussians in [0, 1), got {settings.prune}", "prune"
        )


def locate(capture: Capture, settings: ReconstructSettings, report: StageProgress) -> PosedCapture:
    """The capture with cameras, given or solved, as the settings say."""
    if settings.cameras == "solve" or (settings.cameras == "auto" and not capture.has_cameras):
        return solve_cameras(capture, SolveConfig(settings.seed, settings.cache), report)
    if not capture.has_cameras:
        raise ConfigError(
            f"no cameras in {capture.title}: expected a transforms.json, a COLMAP project or "
            "poses_bounds.npy beside the images; or let recon solve them (cameras='auto')",
            "cameras",
        )
    return PosedCapture(capture, "given")
