"""Shape of the network `cost-volume`."""

from dataclasses import dataclass, field

from recon.model.heads import GaussianHeadConfig
from recon.model.layers.pyramid import PyramidConfig


@dataclass(frozen=True)
class CostVolumeConfig:
    """Defaults are the size that ships. The numbers of planes and of sources are free: weights
    trained with some work with others."""

    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    """Features, and the transformer over the tokens of all views."""
    sources: int = 4
    """Other views that each view is matched with, at most."""
    planes: int = 48
    """Depth planes of the first stage, at 1/4 of the picture; a multiple of 4."""
    fine_planes: int = 12
    """Planes of the second stage, at 1/2, around what the first found; a multiple of 4."""
    direct_px: int = 320
    """Longest side that the first sweep is made for. Larger pictures are swept at half their size
    first, as often as it takes, and the first sweep's place is taken by what came of that."""
    groups: int = 4
    """Groups of the learned correlation."""
    volume: int = 16
    """Channels of the 3D networks at full size."""
    recompute: bool = False
    """Compute blocks again in the backward pass, to save memory."""
    head: GaussianHeadConfig = field(default_factory=GaussianHeadConfig)
    """Activations; depth must be `disparity`."""

    def __post_init__(self) -> None:
        if self.planes % 4 or self.fine_planes % 4:
            raise ValueError("planes and fine_planes must be multiples of 4")
        if self.head.depth != "disparity":
            raise ValueError("the planes of a sweep lie evenly in disparity: head.depth too")


SIZES = {
    "tiny": CostVolumeConfig(
        PyramidConfig((16, 16, 32), width=64, layers=2, heads=2), planes=16, fine_planes=8, volume=8
    ),
    "small": CostVolumeConfig(
        PyramidConfig((24, 48, 64), width=128, layers=4), planes=32, fine_planes=8
    ),
    "base": CostVolumeConfig(),
}
