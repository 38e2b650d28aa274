"""Evaluation on captures with a split: context photos go in, target photos are held out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from recon.capture import Capture, load_capture, load_views
from recon.capture.cameras import relative_to, select_spread, transform_frame
from recon.capture.sfm import SolveConfig
from recon.config import PoseConfig, PoseSource, ViewConfig
from recon.local_frame import camera_origin
from recon.pipeline import estimate_cameras
from recon.types import Views
from training.evaluation.camera_poses import solve_again
from training.evaluation.methods import Method
from training.evaluation.scoring import CaseResult, score_case
from training.evaluation.suite import Case, Split, read_split


@dataclass(frozen=True)
class EvaluateConfig:
    """How photos and cameras of captures are read for an evaluation."""

    resolution: int = 512
    """Long side at which photos are used (px)."""
    solve_cameras: bool = False
    """Solve the cameras of all photos by structure from motion instead of using the given ones;
    those of a capture without cameras are solved in any case."""
    given_only: bool = False
    """Fail if a capture has no cameras."""
    max_views: int = ViewConfig.max_views
    """Maximum number of context photos, those whose cameras are best spread."""
    seed: int = 0
    """Seed of the solver."""
    cache: bool = True
    """Reuse solved cameras of an earlier run on the same photos."""
    device: str = "auto"
    """Device of the constant-depth baseline."""


@torch.no_grad()
def evaluate_case(
    case: Case,
    methods: Mapping[str, Method],
    config: EvaluateConfig,
    baselines: Mapping[str, Method],
) -> CaseResult:
    """Reconstruct from the context photos of a split, render its targets and score them."""
    capture = load_capture(case.capture)
    if not capture.has_cameras:
        source: PoseSource = "given" if config.given_only else "solve"
        poses = PoseConfig(source, cache=config.cache)
        capture = estimate_cameras(capture, poses, config.seed).capture
    elif config.solve_cameras:
        capture = _solved(capture, config)
    # Nothing is written: the world frame, which may be far from zero, does not matter.
    capture = relative_to(capture, camera_origin(capture.frames))
    split = read_split(capture, case.split)
    used = select_spread(replace(capture, frames=split.context), config.max_views)
    split = replace(split, context=tuple(split.context[i] for i in used))
    inputs = load_views(split.context, resolution=config.resolution)
    context, targets = context_and_targets(split, config.resolution)
    settings = {
        "cameras": "solve" if config.solve_cameras else "given",
        "resolution": config.resolution,
    }
    return score_case(case, methods, baselines, inputs, context, targets, settings)


def _solved(capture: Capture, config: EvaluateConfig) -> Capture:
    """Replace the cameras by solved ones, in the given frame by the Sim3 that fits best.

    All photos are solved, held-out ones too (nothing else of those is used): a given camera is not
    where the solver would see the same photo from, and an error of one pixel there would outweigh
    all errors of the scene.
    """
    solved, transform = solve_again(capture, SolveConfig(config.seed, config.cache))
    frames = tuple(transform_frame(f, transform) for f in solved.capture.frames)
    return replace(capture, frames=frames)


def context_and_targets(split: Split, resolution: int) -> tuple[Views, Views]:
    """Load context and target views, padded to one size."""
    count = len(split.context)
    views = load_views(split.context + split.target, resolution=resolution)
    return views[:count], views[count:]
