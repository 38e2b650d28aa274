"""All models by name: classical methods, trainable networks, and networks from checkpoint files.

Both tables are plain dicts. A network of your own is trained and loaded by name after
`NETWORKS["my-net"] = NetworkKind(MyNetwork, MyConfig, {"base": MyConfig()})`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from recon.errors import ConfigError, InputError, did_you_mean
from recon.files import WEIGHT_FOLDERS
from recon.model.checkpoint import Checkpoint, read_checkpoint
from recon.model.inference import NetworkModel
from recon.model.mvs.constant_depth import ConstantDepth
from recon.model.mvs.plane_sweep import PlaneSweep
from recon.model.networks.cost_volume import SIZES as COST_VOLUME_SIZES
from recon.model.networks.cost_volume import CostVolumeConfig, CostVolumeNetwork
from recon.model.networks.epipolar import SIZES as EPIPOLAR_SIZES
from recon.model.networks.epipolar import EpipolarConfig, EpipolarNetwork
from recon.model.networks.gs_lrm import SIZES as GS_LRM_SIZES
from recon.model.networks.gs_lrm import GsLrmConfig, GsLrmNetwork
from recon.model.networks.long_lrm import SIZES as LONG_LRM_SIZES
from recon.model.networks.long_lrm import LongLrmConfig, LongLrmNetwork
from recon.model.networks.pose_free import SIZES as POSE_FREE_SIZES
from recon.model.networks.pose_free import PoseFreeConfig, PoseFreeNetwork
from recon.overlay import overlay
from recon.types import Model

# Names in the headers of checkpoints that older versions wrote.
OLD_NAMES = {"sweep": "cost-volume"}


@dataclass(frozen=True)
class NetworkKind:
    """A network class, its configuration, its named sizes and its bundled weights."""

    network: Callable[[Any], nn.Module]
    """Builds the network from its configuration, which it keeps as `config`."""
    config: Callable[[], Any]
    """Builds the default configuration, a frozen dataclass."""
    sizes: Mapping[str, Any]
    """Configurations by name."""
    weights: str | None = None
    """File name of the weights that come with the package, if there are any."""


NETWORKS: dict[str, NetworkKind] = {
    "cost-volume": NetworkKind(
        CostVolumeNetwork, CostVolumeConfig, COST_VOLUME_SIZES, "cost_volume.safetensors"
    ),
    "gs-lrm": NetworkKind(GsLrmNetwork, GsLrmConfig, GS_LRM_SIZES),
    "long-lrm": NetworkKind(LongLrmNetwork, LongLrmConfig, LONG_LRM_SIZES),
    "epipolar": NetworkKind(EpipolarNetwork, EpipolarConfig, EPIPOLAR_SIZES),
    "pose-free": NetworkKind(PoseFreeNetwork, PoseFreeConfig, POSE_FREE_SIZES),
}
CLASSICAL: dict[str, Callable[[], Model]] = {
    "plane-sweep": PlaneSweep,
    "constant-depth": ConstantDepth,
}


def model_names() -> list[str]:
    """List the models that need no checkpoint file, the default first."""
    return [name for name, kind in NETWORKS.items() if kind.weights is not None] + list(CLASSICAL)


def build_model(name: str) -> Model:
    """Build a model from its name or from a checkpoint file (.safetensors).

    Raises:
        ConfigError: The name is unknown, the network has no bundled weights, or the configuration
            in the file has unknown keys or wrong values.
        InputError: The file is not a checkpoint of a known network.
    """
    if name.endswith(".safetensors"):
        return NetworkModel(load_checkpoint(Path(name)).network)
    known = _find(name, [*NETWORKS, *CLASSICAL])
    if known is None:
        raise ConfigError(
            f"unknown model {name!r}; expected one of: {', '.join(model_names())}, "
            f"or a .safetensors file{_hint(name)}",
            "model",
        )
    if known in CLASSICAL:
        return CLASSICAL[known]()
    weights = NETWORKS[known].weights
    if weights is None:
        raise ConfigError(
            f"the network {known} has no bundled weights; train it (recon train network={known}) "
            f"and pass its .safetensors file as the model, or use one of: "
            f"{', '.join(model_names())}",
            "model",
        )
    return NetworkModel(load_checkpoint(_bundled(weights, known)).network)


def named_size(name: str, size: str) -> Any:
    """Return the configuration of a network's named size.

    Raises:
        ConfigError: There is no such network, or it has no such size.
    """
    name, kind = network_kind(name)
    if size not in kind.sizes:
        raise ConfigError(f"{name} has no size {size!r}; expected one of: {', '.join(kind.sizes)}")
    return kind.sizes[size]


def build_network(name: str, config: Any) -> nn.Module:
    """Build a network with fresh weights; raise ConfigError if the name is unknown."""
    return network_kind(name)[1].network(config)


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a network from a file, in evaluation mode, on the CPU.

    Raises:
        InputError: The file is missing or damaged, its network is unknown, or its weights do
            not fit its own configuration.
        ConfigError: Its configuration has unknown keys or wrong values.
    """
    header, tensors = read_checkpoint(path)
    name = _find(OLD_NAMES.get(header["network"], header["network"]), NETWORKS)
    if name is None:
        raise InputError(
            f"{path} holds a {header['network']!r} network, which this version does not know; "
            f"known: {', '.join(NETWORKS)}"
        )
    config = overlay(NETWORKS[name].config(), header["config"], str(path))
    network = build_network(name, config)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if expected != found:
        wrong = next(key for key in {**expected, **found} if expected.get(key) != found.get(key))
        raise InputError(
            f"{path} does not fit its own configuration: {wrong} is {found.get(wrong)}, "
            f"expected {expected.get(wrong)}"
        )
    network.load_state_dict(tensors)
    return Checkpoint(name, network.eval(), header["provenance"])


def network_kind(name: str) -> tuple[str, NetworkKind]:
    """Return a network's name as it is registered, and its registered kind.

    Raises:
        ConfigError: There is no such network.
    """
    known = _find(name, NETWORKS)
    if known is None:
        raise ConfigError(
            f"unknown network {name!r}; expected one of: {', '.join(NETWORKS)}{_hint(name)}"
        )
    return known, NETWORKS[known]


def _find(name: str, known: Iterable[str]) -> str | None:
    """Find a name among known ones, treating underscores as hyphens."""
    spelled = {candidate.replace("_", "-"): candidate for candidate in known}
    return spelled.get(name.replace("_", "-"))


def _hint(name: str) -> str:
    if name in OLD_NAMES:
        return f" ({name} is now called {OLD_NAMES[name]})"
    return did_you_mean(name.replace("_", "-"), [*NETWORKS, *CLASSICAL])


def _bundled(file: str, name: str) -> Path:
    for folder in WEIGHT_FOLDERS:
        if (folder / file).is_file():
            return folder / file
    raise InputError(
        f"the weights of the model {name} are missing: no {file} in "
        f"{' or '.join(str(folder) for folder in WEIGHT_FOLDERS)}; install recon again, "
        "or use the model plane-sweep"
    )
