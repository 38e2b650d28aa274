"""A run's weights at half the size, for assets/.

python -m training.bundle runs/bundled/model.safetensors assets/sweep.safetensors "note"
"""

import sys
from pathlib import Path

import torch

from recon.errors import ReconError
from recon.model.checkpoint import load_checkpoint, save_checkpoint


def bundle(source: Path, target: Path, note: str) -> None:
    """float16 weights with their provenance and a note; ReconError when they do not fit into it."""
    found = load_checkpoint(source)
    for key, value in found.network.state_dict().items():
        if not bool(torch.isfinite(value.half()).all()):
            raise ReconError(f"{source}: {key} does not fit into float16")
    provenance = {**found.provenance, "note": note}
    save_checkpoint(target, found.name, found.network, provenance, torch.float16)


if __name__ == "__main__":
    bundle(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
