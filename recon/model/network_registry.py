"""Trainable networks by name, and how they become models of `recon`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from recon.errors import ConfigError
from recon.model.batch import NetworkOutput, ViewBatch
from recon.model.mvs.depth_range import depth_range_of
from recon.model.mvs.pixel_gaussians import MIN_MASK, source_view_of
from recon.model.networks.cost_volume import SIZES as SWEEP_SIZES
from recon.model.networks.cost_volume import Sweep, SweepConfig
from recon.model.networks.epipolar import SIZES as EPIPOLAR_SIZES
from recon.model.networks.epipolar import Epipolar, EpipolarConfig
from recon.model.networks.gs_lrm import SIZES as GS_LRM_SIZES
from recon.model.networks.gs_lrm import GsLrm, GsLrmConfig
from recon.model.normalise import Normalisation
from recon.types import Prediction, Progress, Views


@dataclass(frozen=True)
class NetworkKind:
    """A network class, its configuration and the sizes it is known in."""

    network: Callable[[Any], nn.Module]
    config: Callable[[], Any]
    sizes: Mapping[str, Any]


NETWORKS: dict[str, NetworkKind] = {
    "sweep": NetworkKind(Sweep, SweepConfig, SWEEP_SIZES),
    "gs_lrm": NetworkKind(GsLrm, GsLrmConfig, GS_LRM_SIZES),
    "epipolar": NetworkKind(Epipolar, EpipolarConfig, EPIPOLAR_SIZES),
}


def named_size(name: str, size: str) -> Any:
    """The configuration of a network's named size; ReconError listing the names otherwise."""
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}; expected one of: {', '.join(NETWORKS)}")
    sizes = NETWORKS[name].sizes
    if size not in sizes:
        raise ConfigError(f"{name} has no size {size!r}; expected one of: {', '.join(sizes)}")
    return sizes[size]


def build_network(name: str, config: Any) -> nn.Module:
    """A network with fresh weights."""
    return NETWORKS[name].network(config)


def run_network(network: nn.Module, batch: ViewBatch) -> NetworkOutput:
    """The network's output in the batch's own frame and scale: normalise, run, undo."""
    normalisation = Normalisation.of(batch)
    return normalisation.undo(network(normalisation.apply(batch)))


class NetworkModel:
    """A trained network as a model of `recon.reconstruct`."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """One forward pass over all views; masked pixels become no Gaussians."""
        network = self.network.to(views.images.device)
        batch = ViewBatch.of_views(views, depth_range_of(views))
        progress(0.3)
        output = run_network(network, batch)
        keep = (views.masks[:, 0] >= MIN_MASK).flatten()
        gaussians = output.gaussians._mapped(lambda t: t[0])
        # A pixel's Gaussians stand together.
        each = len(gaussians) // len(keep)
        gaussians = gaussians.select(keep.repeat_interleave(each))
        source_view = source_view_of(keep.view(len(views), -1)).repeat_interleave(each)
        progress(1.0)
        return Prediction(gaussians, source_view, output.depth[0], output.confidence[0])
