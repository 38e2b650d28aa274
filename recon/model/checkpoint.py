"""Networks in files: safetensors with a JSON header that says how to build the network.

Nothing is ever unpickled. The header's key `recon` holds the network's name, its full
configuration and where the weights come from.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from recon.errors import ReconError
from recon.files import atomic_output
from recon.model.network_registry import NETWORKS, build_network
from recon.overlay import overlay

KEY = "recon"


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, and what the file says about them."""

    name: str
    network: nn.Module
    provenance: dict[str, Any]
    """Data, compute, licence, scores: whatever the training wrote."""


def save_checkpoint(
    path: Path,
    name: str,
    network: nn.Module,
    provenance: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the weights and how to build the network; the file is whole or not there.

    Read again, weights are float32 whatever the file's `dtype`.
    """
    config: Any = network.config
    header = {"network": name, "config": asdict(config), "provenance": provenance}
    tensors = {
        key: value.detach().cpu().to(dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    with atomic_output(path) as temporary:
        temporary.write_bytes(save(tensors, {KEY: json.dumps(header)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """The network of a file, in evaluation mode on the CPU; ReconError when it is none of ours."""
    if not path.is_file():
        raise ReconError(f"no checkpoint at {path}; expected a .safetensors file of recon train")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ReconError(
            f"{path} is not a whole safetensors file ({error}); copy or download it again"
        ) from None
    if KEY not in metadata:
        raise ReconError(
            f"{path} holds weights, but not of recon: its header lacks the key {KEY!r}"
        )
    header = json.loads(metadata[KEY])
    name = header["network"]
    if name not in NETWORKS:
        raise ReconError(
            f"{path} holds a {name!r} network, which this version does not know; "
            f"known: {', '.join(NETWORKS)}"
        )
    config = overlay(NETWORKS[name].config(), header["config"], str(path))
    network = build_network(name, config)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if wanted != found:
        wrong = next(key for key in {**wanted, **found} if wanted.get(key) != found.get(key))
        raise ReconError(
            f"{path} does not fit its own configuration: {wrong} is {found.get(wrong)}, "
            f"expected {wanted.get(wrong)}"
        )
    network.load_state_dict(tensors)
    return Checkpoint(name, network.eval(), header["provenance"])
