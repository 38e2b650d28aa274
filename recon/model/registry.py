"""Models by name."""

from collections.abc import Callable

from recon.errors import ReconError
from recon.model.constant_depth import ConstantDepth
from recon.model.plane_sweep import PlaneSweep
from recon.model.types import Model

MODELS: dict[str, Callable[[], Model]] = {
    "plane-sweep": PlaneSweep,
    "constant-depth": ConstantDepth,
}


def build_model(name: str) -> Model:
    """The model of that name; ReconError listing the names when there is none."""
    if name not in MODELS:
        raise ReconError(f"unknown model {name!r}; expected one of: {', '.join(MODELS)}")
    return MODELS[name]()
