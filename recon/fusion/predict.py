"""Prediction of many views in groups, whose Gaussians are checked against all depth maps."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from recon.fusion.config import FusionConfig
from recon.fusion.free_space import DepthMaps, is_consistent
from recon.fusion.groups import Group, group_views
from recon.model.inference import without_feedback
from recon.spread import spread_cameras
from recon.types import Model, PackedViews, Prediction, Progress, Views
from render import Gaussians

# Number of geometry views down to which a time limit leaves their size; then it becomes smaller
# first (docs/experiments/more-photos.md).
MIN_GEOMETRY_VIEWS = 12
# The time of a group grows with this power of the resolution: 1.8 s at 128 px, 4.8 s at 256 px.
TIME_EXPONENT = 1.5


def predict_fused(
    views: Views | PackedViews,
    model: Model,
    config: FusionConfig,
    progress: Progress,
    seconds: float | None = None,
) -> Prediction:
    """Predict Gaussians from the geometry views, group by group, and remove inconsistent ones.

    Time and memory of a group do not depend on the number of views.

    Args:
        views: Views with cameras.
        model: Model that predicts each group.
        config: Number and size of the geometry views, size of groups, tolerances.
        progress: Called with the completed fraction.
        seconds: Time that the prediction may take (s), for which there are fewer geometry views
            and smaller depth maps; at least one group is predicted.
    """
    model = without_feedback(model)
    chosen, side = spread_cameras(views.cameras, config.max_views), config.resolution
    if seconds is not None:
        chosen, side = _affordable(views, model, config, chosen, seconds)
    small = at_resolution(views, chosen, side)
    groups = group_views(small.cameras, config.group_size)
    parts: list[Prediction] = []
    for done, part in enumerate(_predict_groups(small, model, groups)):
        parts.append(part)
        progress((done + 1) / (len(groups) + 1))
    order = [v for group in groups for v in group.views[: group.num_predicted]]
    position = torch.tensor(order).argsort()
    fused = Prediction(
        Gaussians.cat([part.gaussians for part in parts]),
        torch.cat([part.source_view for part in parts]),
        torch.cat([part.depth for part in parts])[position],
        torch.cat([part.confidence for part in parts])[position],
    )
    fused = remove_inconsistent(fused, small, config)
    progress(1.0)
    view_of = torch.tensor(chosen, device=fused.source_view.device)
    return replace(fused, source_view=view_of[fused.source_view], geometry_views=tuple(chosen))


def remove_inconsistent(
    prediction: Prediction, views: Views | PackedViews, config: FusionConfig | None = None
) -> Prediction:
    """Remove Gaussians that contradict the depth of other views.

    Args:
        prediction: Prediction of all views, at their size or at a smaller one.
        views: The views.
        config: Tolerances; have defaults.
    """
    config = config or FusionConfig()
    views = at_resolution(views, range(len(views)), max(prediction.depth.shape[-2:]))
    # Where there is nothing of the scene, depth means nothing.
    confidence = prediction.confidence * views.masks[:, 0]
    maps = DepthMaps(views.cameras, prediction.depth, confidence)
    keep = is_consistent(prediction.gaussians, prediction.source_view, maps, config)
    return replace(
        prediction,
        gaussians=prediction.gaussians[keep],
        source_view=prediction.source_view[keep],
    )


def _predict_groups(views: Views, model: Model, groups: list[Group]) -> Iterator[Prediction]:
    """Predict each group; sources are indices into `views`, depths those of the group's own."""
    for group in groups:
        members, own = list(group.views), group.num_predicted
        found = model(views[members], lambda fraction: None)
        predicted = found.source_view < own
        index = torch.tensor(members, device=found.source_view.device)
        yield Prediction(
            found.gaussians[predicted],
            index[found.source_view[predicted]],
            found.depth[:own],
            found.confidence[:own],
        )


def _affordable(
    views: Views | PackedViews,
    model: Model,
    config: FusionConfig,
    chosen: list[int],
    seconds: float,
) -> tuple[list[int], int]:
    """Return the geometry views that the time suffices for, and their resolution (px).

    It is expected from the time of one group at half the resolution. Smaller depth maps cost less
    quality than parts of the scene that no geometry view shows.
    """
    started = time.monotonic()
    full = min(config.resolution, max(views.cameras.width, views.cameras.height))
    half = math.ceil(full / 2)
    group = spread_cameras(views.cameras, config.group_size)
    model(at_resolution(views, group, half), lambda fraction: None)
    spent = time.monotonic() - started
    left = max(seconds - spent, 0.0) / max(spent, 1e-9)
    # Numbers of views that can be predicted at half and at the whole resolution.
    at_half = config.group_size * left
    whole = at_half * (half / full) ** TIME_EXPONENT
    wanted = min(len(chosen), MIN_GEOMETRY_VIEWS)
    if whole >= wanted:
        return _fewer(views, chosen, int(whole)), full
    side = round(full * (whole / wanted) ** (1 / TIME_EXPONENT))
    if side >= half:
        return _fewer(views, chosen, wanted), side
    return _fewer(views, chosen, max(int(at_half), config.group_size)), half


def _fewer(views: Views | PackedViews, chosen: list[int], count: int) -> list[int]:
    return chosen if count >= len(chosen) else spread_cameras(views.cameras, count)


def at_resolution(views: Views | PackedViews, chosen: Sequence[int], resolution: int) -> Views:
    """Return some views, resized one by one: at full size they are large in floating point.

    Args:
        views: All views.
        chosen: Indices of the views to return.
        resolution: Maximum length of their long side (px).
    """
    scale = resolution / max(views.cameras.width, views.cameras.height)
    if scale >= 1:
        return views[list(chosen)]
    return Views.cat([views[[v]].resized(scale) for v in chosen])
