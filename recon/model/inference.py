"""Run networks: in the frame of the cameras, and as models of `recon.reconstruct`."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.layers.precision import mixed_precision
from recon.model.mvs.depth_range import estimate_depth_range
from recon.model.mvs.pixel_gaussians import MIN_MASK, source_view_of
from recon.model.networks.cost_volume.config import CostVolumeConfig
from recon.model.normalise import Normalisation
from recon.types import Model, Prediction, Progress, Views


def run_network(network: nn.Module, batch: ViewBatch) -> NetworkOutput:
    """Run a network in the batch's own frame and scale.

    Networks see normalised cameras only: the batch is normalised and the output transformed back.

    Args:
        network: A network of `recon.model.registry.NETWORKS`.
        batch: Views with cameras in any frame and scale.
    """
    normalisation = Normalisation.of(batch)
    return normalisation.undo(network(normalisation.apply(batch)))


class NetworkModel:
    """A trained network as a model of `recon.reconstruct`.

    It runs on the device of the views. Depth ranges that the capture does not state are estimated
    by a coarse plane sweep.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """Predict all views in one forward pass; masked pixels do not become Gaussians."""
        network = self.network.to(views.images.device)
        batch = ViewBatch.from_views(views, estimate_depth_range(views))
        progress(0.3)
        fits = getattr(network, "runs_in_bf16", False)
        with mixed_precision(views.images.device, fits):
            output = run_network(network, batch)
        gaussians = output.gaussians.map(lambda t: t[0])
        keep = (views.masks[:, 0] >= MIN_MASK).flatten()
        # The Gaussians of one pixel are neighbours in the list.
        per_pixel = len(gaussians) // len(keep)
        gaussians = gaussians[keep.repeat_interleave(per_pixel)]
        source_view = source_view_of(keep.view(len(views), -1)).repeat_interleave(per_pixel)
        progress(1.0)
        return Prediction(gaussians, source_view, output.depth[0], output.confidence[0])


def without_feedback(model: Model) -> Model:
    """Return the model without rounds of error feedback, if it has any.

    They fit the Gaussians to the views of one forward pass, which is in vain where an optimisation
    follows, or where other views correct the scene (docs/experiments/whole-captures.md).
    """
    config = getattr(model.network, "config", None) if isinstance(model, NetworkModel) else None
    if getattr(config, "feedback_rounds", 0) == 0:
        return model
    assert isinstance(model, NetworkModel) and isinstance(config, CostVolumeConfig)
    network: Any = copy.copy(model.network)
    network.config = replace(config, feedback_rounds=0)
    return NetworkModel(network)
