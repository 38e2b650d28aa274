"""State of a training run, from which it resumes to the bit: one safetensors file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from recon.errors import InputError
from recon.files import atomic_output
from training.parallel import sharded_like, whole

KEY = "recon-training"


def state_tensors(
    network: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer, keep: bool = True
) -> dict[str, Tensor]:
    """Return the weights, the averaged weights and the optimiser's moments, on the CPU.

    If the networks are sharded, all processes must call this; without `keep` they get nothing.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("network", network), ("averaged", averaged)):
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
    gathered = ((name, whole(value.detach())) for name, value in tensors.items())
    return {name: value.cpu().clone() for name, value in gathered if keep}


def save_state(path: Path, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    """Write the tensors of a state and `progress` (JSON)."""
    with atomic_output(path) as temporary:
        temporary.write_bytes(save(tensors, {KEY: json.dumps(progress)}))


def read_progress(path: Path) -> dict[str, Any] | None:
    """Return the `progress` of a state without its tensors; None if there is no such file.

    Raises:
        InputError: The file is damaged or is not a training state.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as handle:
            return _progress_of(path, handle.metadata())
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of a state, those that the optimiser changes, not their average."""
    with safe_open(path, framework="pt") as handle:
        names = [key for key in handle.keys() if key.startswith("network.")]  # noqa: SIM118
        return {key.removeprefix("network."): handle.get_tensor(key) for key in names}


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot resume from {path}: {error}; the file is damaged: put an intact copy there, or "
        "start a new run with another out=FOLDER"
    )


def _progress_of(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    if KEY not in (metadata or {}):
        raise InputError(
            f"cannot resume from {path}: it is not the state of a training run; "
            "choose the run's folder by out=FOLDER"
        )
    progress: dict[str, Any] = json.loads((metadata or {})[KEY])
    return progress


def load_state(
    path: Path,
    network: nn.Module,
    averaged: nn.Module,
    optimiser: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Load a state into the networks and the optimiser; return `progress`.

    Raises:
        InputError: The file cannot be read, or belongs to another network.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            progress = _progress_of(path, handle.metadata())
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimiser": {}}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = value
    try:
        for name, module in (("network", network), ("averaged", averaged)):
            own = module.state_dict()
            module.load_state_dict(
                {k: sharded_like(v, own[k]) if k in own else v for k, v in parts[name].items()}
            )
    except RuntimeError:
        raise InputError(f"cannot resume from {path}: its network has a different shape") from None
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimiser"].items():
        index, _, name = key.partition(".")
        weight = weights[int(index)]
        # The number of steps is no moment.
        moment = sharded_like(value, weight) if value.shape == weight.shape else value
        states.setdefault(int(index), {})[name] = moment
    document = optimiser.state_dict()
    document["state"] = states
    optimiser.load_state_dict(document)
    return progress
