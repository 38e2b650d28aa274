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

from recon.errors import InputError
from recon.files import atomic_output

KEY = "recon"


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights and their provenance."""

    name: str
    network: nn.Module
    provenance: dict[str, Any]
    """Data, compute, licence and scores, as written by the training."""


def save_checkpoint(
    path: Path,
    name: str,
    network: nn.Module,
    provenance: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a network's weights and configuration; the file is replaced only when complete.

    The weights are stored as `dtype` and cast to float32 when they are loaded.
    """
    config: Any = network.config
    header = {"network": name, "config": asdict(config), "provenance": provenance}
    tensors = {
        key: value.detach().cpu().to(dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    with atomic_output(path) as temporary:
        temporary.write_bytes(save(tensors, {KEY: json.dumps(header)}))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the JSON header and the weights of a checkpoint.

    Raises:
        ReconError: The file is missing or damaged, or it is not a recon checkpoint.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; expected a .safetensors file from recon train")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a complete safetensors file ({error}); copy or download it again"
        ) from None
    if KEY not in metadata:
        raise InputError(
            f"{path} holds weights that recon did not write: its header lacks the key {KEY!r}"
        )
    return json.loads(metadata[KEY]), tensors
