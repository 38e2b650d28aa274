"""Prediction of many views in groups, whose Gaussians are checked against all depth maps."""

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
    gaussians, source = Gaussians.cat(scenes), torch.cat(sources)
    # Where there is nothing of the scene, depth means nothing.
    maps = DepthMaps(small.cameras, depths, confidences * small.masks[:, 0])
    keep = is_consistent(gaussians, source, maps, config)
    progress(1.0)
    view_of = torch.tensor(chosen, device=source.device)
    return Prediction(gaussians[keep], view_of[source[keep]], depths, confidences, tuple(chosen))


def _at_resolution(views: Views, resolution: int) -> Views:
    scale = resolution / max(views.images.shape[-2:])
    return views.resized(scale) if scale < 1 else views
