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
# Name of a file of a checkpoint in several files; index counts from 1.
PART = "weights-{index}-of-{count}.safetensors"


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


def save_parts(path: Path, folder: Path, limit: int) -> None:
    """Write a checkpoint's weights as float16 to a folder of files of at most `limit` bytes each.

    Every file has the checkpoint's header. The folder is replaced only when it is complete, and is
    read as a checkpoint is.

    Raises:
        ReconError: The checkpoint is damaged, or one tensor alone is larger than the limit.
    """
    header, tensors = read_checkpoint(path)
    parts: list[dict[str, torch.Tensor]] = [{}]
    # Room for the header and the table of tensors.
    room = limit - len(json.dumps(header)) - 200 * len(tensors)
    size = 0
    for key, value in tensors.items():
        half = value.half()
        if half.nbytes > room:
            raise InputError(f"{path}: {key} has {half.nbytes} bytes, the limit is {limit}")
        if size + half.nbytes > room:
            parts.append({})
            size = 0
        parts[-1][key] = half
        size += half.nbytes
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        for index, part in enumerate(parts):
            name = PART.format(index=index + 1, count=len(parts))
            (temporary / name).write_bytes(save(part, {KEY: json.dumps(header)}))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the JSON header and the weights of a checkpoint.

    Args:
        path: Checkpoint file, or a folder that `save_parts` has written.

    Raises:
        ReconError: The file is missing or damaged, or it is not a recon checkpoint.
    """
    if not path.is_dir():
        return _read_file(path)
    found = sorted(file.name for file in path.glob(PART.format(index="*", count="*")))
    # In the order in which they were written, which is not that of text: 10 comes before 2 there.
    expected = [PART.format(index=i + 1, count=len(found)) for i in range(len(found))]
    if not found or set(found) != set(expected):
        raise InputError(
            f"{path} holds no complete checkpoint: expected files {PART.format(index=1, count='N')}"
            f" to N of N, found {', '.join(found) or 'none'}; copy or download the folder again"
        )
    headers, parts = zip(*(_read_file(path / name) for name in expected), strict=True)
    if any(header != headers[0] for header in headers):
        raise InputError(f"{path}: its files belong to different checkpoints")
    return headers[0], {key: value for part in parts for key, value in part.items()}


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; expected a .safetensors file from recon train")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a complete safetensors file ({error}); copy or download it again"
        ) from None
    if KEY not in metadata:
        raise InputError(
            f"{path} holds weights that recon did not write: its header lacks the key {KEY!r}"
        )
    return _checked_header(path, metadata[KEY]), tensors


def _checked_header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    kinds = {"network": str, "config": dict, "provenance": dict}
    if not isinstance(header, dict) or any(
        not isinstance(header.get(key), kind) for key, kind in kinds.items()
    ):
        raise InputError(
            f"{path} has a damaged header: expected the network, its config and its provenance; "
            "copy or download it again"
        )
    return header
