"""A run's weights at half the size, for assets/.

python -m training.export_checkpoint RUN.safetensors OUT.safetensors "note" [key=value]

Changes to the network's configuration must not change its weights' shapes: `direct_px=320`.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recon.errors import InputError
from recon.model.checkpoint import save_checkpoint
from recon.model.registry import load_checkpoint


def bundle(source: Path, target: Path, note: str, changes: dict[str, int] | None = None) -> None:
    """float16 weights with their provenance and a note; ReconError when they do not fit into it."""
    found = load_checkpoint(source)
    config: Any = found.network.config
    found.network.config = replace(config, **(changes or {}))
    for key, value in found.network.state_dict().items():
        if not bool(torch.isfinite(value.half()).all()):
            raise InputError(f"{source}: {key} does not fit into float16")
    provenance = {**found.provenance, "note": note}
    save_checkpoint(target, found.name, found.network, provenance, torch.float16)


if __name__ == "__main__":
    pairs = (assignment.split("=") for assignment in sys.argv[4:])
    bundle(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], {key: int(v) for key, v in pairs})
