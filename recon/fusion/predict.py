"""Prediction of many views in groups, whose Gaussians are checked against all depth maps."""

from dataclasses import replace

import torch

from recon.fusion.config import FusionConfig
from recon.fusion.free_space import DepthMaps, is_consistent
from recon.fusion.groups import group_views, select_geometry_views
from recon.model.inference import without_feedback
from recon.types import Model, Prediction, Progress, Views
from render import Gaussians


def predict_fused(
    views: Views, model: Model, config: FusionConfig, progress: Progress
) -> Prediction:
    """Predict Gaussians from the geometry views, group by group, and remove inconsistent ones.

    Time and memory of a group do not depend on the number of views.

    Args:
        views: Views with cameras.
        model: Model that predicts each group.
        config: Number and size of the geometry views, size of groups, tolerances.
        progress: Called with the completed fraction.
    """
    model = without_feedback(model)
    chosen = select_geometry_views(views.cameras, config.max_views)
    small = _at_resolution(views[chosen], config.resolution)
    groups = group_views(small.cameras, config.group_size)
    scenes, sources, done = [], [], 0
    depths = torch.zeros(len(chosen), *small.images.shape[-2:], device=small.images.device)
    confidences = torch.zeros_like(depths)
    for group in groups:
        progress(done / len(chosen))
        members, own = list(group.views), group.num_predicted
        found = model(small[members], lambda fraction: None)
        predicted = found.source_view < own
        scenes.append(found.gaussians[predicted])
        index = torch.tensor(members, device=found.source_view.device)
        sources.append(index[found.source_view[predicted]])
        depths[members[:own]] = found.depth[:own]
        confidences[members[:own]] = found.confidence[:own]
        done += own
    fused = Prediction(Gaussians.cat(scenes), torch.cat(sources), depths, confidences)
    fused = without_inconsistent(fused, small, config)
    progress(1.0)
    view_of = torch.tensor(chosen, device=fused.source_view.device)
    return replace(fused, source_view=view_of[fused.source_view], geometry_views=tuple(chosen))


def without_inconsistent(prediction: Prediction, views: Views, config: FusionConfig) -> Prediction:
    """Remove Gaussians that contradict the depth of other views.

    Args:
        prediction: Prediction of all views, at their size.
        views: The views.
        config: Tolerances.
    """
    # Where there is nothing of the scene, depth means nothing.
    confidence = prediction.confidence * views.masks[:, 0]
    maps = DepthMaps(views.cameras, prediction.depth, confidence)
    keep = is_consistent(prediction.gaussians, prediction.source_view, maps, config)
    return replace(
        prediction,
        gaussians=prediction.gaussians[keep],
        source_view=prediction.source_view[keep],
    )


def _at_resolution(views: Views, resolution: int) -> Views:
    scale = resolution / max(views.images.shape[-2:])
    return views.resized(scale) if scale < 1 else views
