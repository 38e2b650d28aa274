"""Add a network of your own to the registry, and reconstruct with it by name.

python examples/05_own_network.py assets/sample own.safetensors
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

import recon
from recon.model.api import NetworkOutput, ViewBatch
from recon.model.checkpoint import save_checkpoint
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.registry import NETWORKS, NetworkKind, build_network


@dataclass(frozen=True)
class OwnConfig:
    """Configuration of the network; a checkpoint stores it."""

    channels: int = 16
    head: GaussianHeadConfig = field(default_factory=GaussianHeadConfig)


class OwnNetwork(nn.Module):
    """Two convolutions per view that predict raw Gaussian attributes of every pixel."""

    def __init__(self, config: OwnConfig) -> None:
        super().__init__()
        self.config = config
        self.encode = nn.Conv2d(3, config.channels, 3, padding=1)
        self.decode = nn.Conv2d(config.channels, config.head.channels, 3, padding=1)

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Map images [b v 3 h w] to raw attributes [b v h w c], and activate these."""
        raw = self.decode(self.encode(batch.images.flatten(0, 1)).relu())
        raw = raw.movedim(1, -1).unflatten(0, batch.images.shape[:2])
        return activate(raw, batch, self.config.head)


def main() -> None:
    """Register, build, save, and reconstruct with the checkpoint (untrained here)."""
    capture, checkpoint = map(Path, sys.argv[1:])
    NETWORKS["own"] = NetworkKind(OwnNetwork, OwnConfig, {"base": OwnConfig()})
    save_checkpoint(checkpoint, "own", build_network("own", OwnConfig()), {})
    config = recon.ReconstructConfig(recon.ViewConfig(2, 64), model=str(checkpoint))
    print(recon.reconstruct(capture, config))


if __name__ == "__main__":
    main()
