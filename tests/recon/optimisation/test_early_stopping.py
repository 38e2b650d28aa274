"""Early stopping: steps are limited to what improves a held-out view."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recon.capture import load_capture, load_views
from recon.model.registry import build_model
from recon.optimisation.config import OptimiseConfig
from recon.optimisation.early_stopping import HeldOut, select_num_steps
from recon.types import Prediction, Views


@pytest.fixture(scope="module")
def four(sample: Path) -> tuple[Prediction, Views]:
    frames = load_capture(sample).frames
    views = load_views([frames[i] for i in (1, 2, 4, 5)], 64)
    return build_model("plane-sweep")(views, lambda done: None), views


def test_all_steps_are_taken_if_the_held_out_view_improves(four: tuple[Prediction, Views]) -> None:
    found, views = four
    assert (
        select_num_steps(found.gaussians, found.source_view, views, OptimiseConfig(steps=20))
        is None
    )


def test_steps_that_overfit_are_not_taken(four: tuple[Prediction, Views]) -> None:
    """Views of noise: each can be fitted, but none predicts another."""
    found, views = four
    torch.manual_seed(0)
    smooth = torch.full_like(views.images, 0.5)
    gray = replace(found.gaussians, sh=torch.zeros_like(found.gaussians.sh))
    noise = replace(views, images=(smooth + 0.3 * torch.randn_like(smooth)).clamp(0, 1))
    config = OptimiseConfig(steps=40, lr_sh=0.05)
    steps = select_num_steps(gray, found.source_view, noise, config)
    assert steps is not None and steps <= 8


def test_few_views_are_not_checked(four: tuple[Prediction, Views]) -> None:
    context = four[1][:2]
    found = build_model("constant-depth")(context, lambda done: None)
    assert (
        select_num_steps(found.gaussians, found.source_view, context, OptimiseConfig(steps=5))
        is None
    )


def test_the_held_out_view_is_rendered_from_the_others(four: tuple[Prediction, Views]) -> None:
    found, views = four
    held_out = HeldOut.of(found.gaussians, found.source_view, views)
    assert len(held_out.train_views) == 3 and len(held_out.target) == 1
    assert held_out.target.names[0] not in held_out.train_views.names
    chosen = views.names.index(held_out.target.names[0])
    assert len(held_out.gaussians) == int((found.source_view != chosen).sum())
    assert 0.3 < float(held_out.covered.float().mean()) <= 1.0
    # A darker view is no error.
    darker = replace(held_out, target=replace(held_out.target, images=0.5 * held_out.target.images))
    errors = [h.error(held_out.gaussians) for h in (held_out, darker)]
    assert errors[1] == pytest.approx(errors[0] / 4, rel=1e-3)
