"""The weights that come with recon."""

from pathlib import Path

from recon.errors import ConfigError
from recon.model.checkpoint import load_checkpoint
from recon.model.network_registry import NetworkModel

# In a source tree, in an installed package.
PLACES = (
    Path(__file__).resolve().parents[2] / "assets",
    Path(__file__).resolve().parents[1] / "weights",
)


def bundled_model(name: str) -> NetworkModel:
    """A bundled network; ReconError when its weights are not there."""
    for place in PLACES:
        path = place / f"{name}.safetensors"
        if path.is_file():
            return NetworkModel(load_checkpoint(path).network)
    raise ConfigError(
        f"the weights of model={name!r} are missing: no {name}.safetensors in "
        f"{' or '.join(str(place) for place in PLACES)}; install recon again, "
        "or use model='plane-sweep'",
        "model",
    )
