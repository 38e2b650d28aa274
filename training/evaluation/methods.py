"""Methods to evaluate: anything that maps context views to a scene."""

from collections.abc import Callable, Mapping

from recon.config import OptimiseConfig, ReconstructConfig
from recon.devices import choose_device
from recon.model.registry import build_model
from recon.pipeline import reconstruct_views
from recon.scene import Scene
from recon.types import Views
from render import Gaussians

Method = Callable[[Views], Gaussians | Scene]
"""Context views with cameras in, a scene in the frame of these cameras out."""


def recon_method(config: ReconstructConfig) -> Method:
    """Return the reconstruction by recon: prediction, simplification and optimisation.

    The model is built once, for any number of scenes.
    """
    model, device = build_model(config.model), choose_device(config.device)

    def method(views: Views) -> Scene:
        return reconstruct_views(views.to(device), model, config)

    return method


def constant_depth(device: str = "auto") -> Method:
    """Return the baseline that puts all pixels of a view at one depth."""
    return recon_method(
        ReconstructConfig(model="constant-depth", optimise=OptimiseConfig(steps=0), device=device)
    )


def as_mapping(methods: Method | Mapping[str, Method]) -> dict[str, Method]:
    """Return methods by name; a single one is called by its `__name__`, else "method"."""
    if isinstance(methods, Mapping):
        return dict(methods)
    return {getattr(methods, "__name__", "method"): methods}
