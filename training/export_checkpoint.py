"""Export of a run's weights as float16, for assets/.

python -m training.export_checkpoint RUN.safetensors OUT.safetensors "note" [key=value]

Changes to the network's configuration must not change the shapes of its weights: `direct_px=320`.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from recon.errors import InputError
from recon.model.checkpoint import save_checkpoint
from recon.model.registry import load_checkpoint
from recon.overlay import overlay


def export_checkpoint(
    source: Path, target: Path, note: str, changes: dict[str, int] | None = None
) -> None:
    """Write float16 weights with their provenance and a note.

    Args:
        source: Checkpoint of a run.
        target: File to write.
        note: Text that is added to the provenance.
        changes: Fields of the network's configuration to change.

    Raises:
        InputError: The source is not a checkpoint, or a weight does not fit into float16.
        ConfigError: A changed field does not exist.
    """
    checkpoint = load_checkpoint(source)
    network: Any = checkpoint.network
    network.config = overlay(network.config, changes or {}, "changes")
    for key, value in network.state_dict().items():
        if not bool(torch.isfinite(value.half()).all()):
            raise InputError(f"{source}: {key} does not fit into float16")
    provenance = {**checkpoint.provenance, "note": note}
    save_checkpoint(target, checkpoint.name, network, provenance, torch.float16)


if __name__ == "__main__":
    pairs = (assignment.split("=") for assignment in sys.argv[4:])
    changes = {key: int(value) for key, value in pairs}
    export_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], changes)
