"""Models by name, or from a checkpoint file."""

from collections.abc import Callable
from pathlib import Path

from recon.errors import ReconError
from recon.model.mvs.constant_depth import ConstantDepth
from recon.model.mvs.plane_sweep import PlaneSweep
from recon.types import Model


def _sweep() -> Model:
    from recon.model.bundled import bundled_model

    return bundled_model("sweep")


MODELS: dict[str, Callable[[], Model]] = {
    "plane-sweep": PlaneSweep,
    "sweep": _sweep,
    "constant-depth": ConstantDepth,
}


def build_model(name: str) -> Model:
    """The model of that name or checkpoint file; ReconError listing the names otherwise."""
    if name in MODELS:
        return MODELS[name]()
    if name.endswith(".safetensors"):
        from recon.model.checkpoint import load_checkpoint
        from recon.model.network_registry import NetworkModel

        return NetworkModel(load_checkpoint(Path(name)).network)
    raise ReconError(
        f"unknown model {name!r}; expected one of: {', '.join(MODELS)}, or a .safetensors file"
    )
