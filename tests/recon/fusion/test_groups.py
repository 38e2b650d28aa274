"""Groups of views: every view once, neighbours together, groups of constant size."""

from pathlib import Path

import pytest
import torch

from recon.capture import load_capture, load_views
from recon.fusion.config import FusionConfig
from recon.fusion.groups import group_views
from recon.fusion.predict import predict_fused
from recon.model.registry import build_model
from recon.pipeline import predict
from recon.spread import spread_cameras
from recon.types import Prediction, Progress, Views
from render import Cameras


def orbit(count: int) -> Cameras:
    """Cameras on a circle that look at its centre."""
    angle = 2 * torch.pi * torch.arange(count) / count
    viewmats = torch.zeros(count, 4, 4)
    viewmats[:, 0, 0], viewmats[:, 0, 2] = angle.cos(), angle.sin()
    viewmats[:, 2, 0], viewmats[:, 2, 2] = -angle.sin(), angle.cos()
    viewmats[:, 1, 1] = viewmats[:, 3, 3] = 1
    viewmats[:, 2, 3] = 3.0
    Ks = torch.tensor([[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(viewmats, Ks, 32, 32)


@pytest.mark.parametrize("count, size", [(3, 4), (4, 4), (9, 4), (32, 4), (33, 4), (10, 3)])
def test_every_view_is_predicted_once(count: int, size: int) -> None:
    groups = group_views(orbit(count), size)
    predicted = [v for group in groups for v in group.views[: group.num_predicted]]
    assert sorted(predicted) == list(range(count))
    for group in groups:
        assert len(group.views) == len(set(group.views)) == min(size, count)


def test_groups_are_neighbours() -> None:
    """On a circle of 32 views a group of four spans a small arc."""
    for group in group_views(orbit(32), 4):
        gaps = (torch.tensor(group.views) - group.views[0] + 16) % 32 - 16
        assert int(gaps.abs().max()) <= 4


def test_geometry_views_are_spread() -> None:
    chosen = spread_cameras(orbit(40), 10)
    gaps = torch.tensor([*chosen, chosen[0] + 40]).diff()
    assert len(chosen) == 10 and int(gaps.max()) <= 8
    assert spread_cameras(orbit(5), 10) == [0, 1, 2, 3, 4]


class Recorder:
    """Passes views on to a model, and records how many it got."""

    def __init__(self) -> None:
        self.model, self.calls = build_model("constant-depth"), []

    def __call__(self, views: Views, progress: Progress) -> Prediction:
        self.calls.append((len(views), max(views.images.shape[-2:])))
        return self.model(views, progress)


def test_many_views_are_predicted_in_groups(sample: Path) -> None:
    """The size of a call does not grow with the number of views; views of no group supervise."""
    views = load_views(load_capture(sample), 64)
    config = FusionConfig(min_views=5, max_views=5, group_size=3, resolution=32)
    recorder, fractions = Recorder(), []
    found = predict_fused(views, recorder, config, fractions.append)
    assert recorder.calls == [(3, 32), (3, 32)]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    chosen = found.geometry_views
    assert chosen is not None and len(chosen) == 5 == len(found.depth) == len(found.confidence)
    assert set(found.source_view.tolist()) <= set(chosen) < set(range(len(views)))
    assert max(found.depth.shape[-2:]) == 32
    # Gaussians of a view project into it, in the frame of all views.
    for view in chosen:
        own = found.gaussians[found.source_view == view]
        pixels, depth = views.cameras[view].project(own.means)
        assert bool((depth > 0).all()) and bool((pixels > -1).all()) and bool((pixels < 65).all())


def test_few_views_are_one_forward_pass(sample: Path) -> None:
    views = load_views(load_capture(sample), 64)[:4]
    recorder = Recorder()
    found = predict(views, recorder)
    assert recorder.calls == [(4, 64)] and found.geometry_views is None
    predict(views, recorder, fusion=FusionConfig(min_views=4, resolution=32))
    assert recorder.calls[1:] == [(4, 32)]
