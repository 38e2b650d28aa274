"""Run networks: in the frame of the cameras, and as models of `recon.reconstruct`."""

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.layers.precision import mixed_precision
from recon.model.mvs.depth_correction import depth_factors
from recon.model.mvs.depth_range import estimate_depth_range
from recon.model.mvs.pixel_gaussians import MIN_MASK, source_view_of
from recon.model.networks.cost_volume.config import CostVolumeConfig
from recon.model.normalise import Normalisation
from recon.types import Model, Prediction, Progress, Views
from render import Cameras, Gaussians


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

    def __init__(self, network: nn.Module, confirmations: int = 0) -> None:
        """Take a network.

        Args:
            network: The network.
            confirmations: Number of views that must confirm a depth for Gaussians to be moved to
                where images clearly match better (see `recon.model.mvs.depth_correction`); 0
                moves none.
        """
        self.network, self.confirmations = network, confirmations

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """Predict all views in one forward pass; masked pixels do not become Gaussians."""
        network = self.network.to(views.images.device)
        depth_range = estimate_depth_range(views)
        batch = ViewBatch.from_views(views, depth_range)
        progress(0.3)
        fits = getattr(network, "runs_in_bf16", False)
        with mixed_precision(views.images.device, fits):
            output = run_network(network, batch)
        progress(0.7)
        gaussians, depth = output.gaussians.map(lambda t: t[0]), output.depth[0]
        keep = (views.masks[:, 0] >= MIN_MASK).flatten()
        # The Gaussians of one pixel are neighbours in the list.
        per_pixel = len(gaussians) // len(keep)
        if 0 < self.confirmations < len(views):
            factors = depth_factors(views, depth, depth_range, self.confirmations)
            depth = factors * depth
            each = factors.flatten().repeat_interleave(per_pixel)
            gaussians = _moved(gaussians, views.cameras, each)
        gaussians = gaussians[keep.repeat_interleave(per_pixel)]
        source_view = source_view_of(keep.view(len(views), -1)).repeat_interleave(per_pixel)
        progress(1.0)
        return Prediction(gaussians, source_view, depth, output.confidence[0])


def _moved(gaussians: Gaussians, cameras: Cameras, factors: Float[Tensor, " n"]) -> Gaussians:
    """Move the Gaussians of all views along the rays to them; they keep their apparent size."""
    centers = cameras.centers.repeat_interleave(len(gaussians) // len(cameras), 0)
    means = centers + factors[:, None] * (gaussians.means - centers)
    return replace(gaussians, means=means, scales=factors[:, None] * gaussians.scales)


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
    return NetworkModel(network, model.confirmations)


def with_depth_correction(model: Model, confirmations: int) -> Model:
    """Return the model with corrections of its depth, if it is a network.

    They are for a scene that is optimised: opacities and colours are still those that suited the
    former depth (docs/experiments/depth-correction.md).

    Args:
        model: A model.
        confirmations: Number of other views that must confirm a depth.
    """
    return NetworkModel(model.network, confirmations) if isinstance(model, NetworkModel) else model
