"""The network of a run: built from the configuration or passed in, with its initial weights."""

from dataclasses import is_dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from recon.errors import ConfigError
from recon.model.registry import build_network, load_checkpoint, network_kind
from training.config import TrainConfig, network_config


def configured_network(config: TrainConfig) -> nn.Module:
    """Build the configuration's network with random weights, from torch's global generator.

    Raises:
        ConfigError: The configuration is not that of a network.
    """
    shape = network_config(config)
    try:
        return build_network(config.network, shape)
    except (ValueError, ArithmeticError, RuntimeError, AssertionError) as error:
        if not config.changes:
            raise
        raise ConfigError(
            f"changes: {config.network} {config.size} with {config.changes} cannot be built: "
            f"{error}; expected values that fit together"
        ) from None


def check_network(network: nn.Module, name: str) -> None:
    """Check that the checkpoints of a given network will record how to rebuild it.

    Raises:
        ConfigError: The network has no configuration, `name` is not in `NETWORKS`, or it names
            another class.
    """
    kind = type(network).__name__
    if not is_dataclass(getattr(network, "config", None)):
        raise ConfigError(
            f"{kind} has no attribute `config` with a dataclass; its checkpoint could not say how "
            "to build it"
        )
    expected = network_kind(name)[1].network
    if isinstance(expected, type) and not isinstance(network, expected):
        raise ConfigError(
            f"network is {name!r}, which names {expected.__name__}, but a {kind} was passed; set "
            "the configuration's field network to the name of its class"
        )


def load_initial_weights(network: nn.Module, config: TrainConfig) -> None:
    """Load the weights of `config.init`, if any.

    Whole parts that only one of the two networks has stay as they are. Where the run's network has
    more input channels than the checkpoint's, the last ones get weights of zero, so that it starts
    with the same outputs.

    Raises:
        ConfigError: The checkpoint's network has other parameters.
    """
    if not config.init:
        return
    checkpoint = load_checkpoint(Path(config.init))
    weights, own = checkpoint.network.state_dict(), network.state_dict()
    common = {part_of(key) for key in weights} & {part_of(key) for key in own}
    weights = {key: value for key, value in weights.items() if part_of(key) in common}
    expected = {key: value.shape for key, value in own.items() if part_of(key) in common}
    weights = {
        key: _with_more_inputs(value, expected.get(key, value.shape))
        for key, value in weights.items()
    }
    if not common or expected != {key: value.shape for key, value in weights.items()}:
        raise ConfigError(
            f"init: {config.init} holds a {checkpoint.name} whose shape differs from "
            f"{config.network} {config.size}"
        )
    network.load_state_dict(weights, strict=False)


def part_of(key: str) -> str:
    """Return the part of a network that the parameter of this name belongs to."""
    return key.partition(".")[0]


def _with_more_inputs(weight: Tensor, shape: torch.Size) -> Tensor:
    """Append input channels of zeros to the weights of a convolution or linear layer."""
    if weight.dim() < 2 or shape[:1] + shape[2:] != weight.shape[:1] + weight.shape[2:]:
        return weight
    missing = shape[1] - weight.shape[1]
    if missing <= 0:
        return weight
    zeros = weight.new_zeros(shape[0], missing, *shape[2:])
    return torch.cat([weight, zeros], 1)


def freeze(network: nn.Module, prefix: str) -> None:
    """Let only the parameters whose names start with a prefix require gradients.

    Raises:
        ConfigError: No parameter has the prefix.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(prefix))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        known = ", ".join(dict.fromkeys(name.split(".")[0] for name in network.state_dict()))
        raise ConfigError(f"optimiser.only: no parameter starts with {prefix!r}; parts: {known}")


def initial_network(config: TrainConfig, given: nn.Module | None) -> nn.Module:
    """Return the network to train, given or built, with its initial weights.

    Raises:
        ConfigError: The network, `init` or `optimiser.only` does not fit.
    """
    torch.manual_seed(config.seed)
    if given is None:
        network = configured_network(config)
    else:
        check_network(given, config.network)
        network = given
    load_initial_weights(network, config)
    freeze(network, config.optimiser.only)
    return network
