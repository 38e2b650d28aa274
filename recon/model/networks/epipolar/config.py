"""Shape of the network `epipolar`."""

from dataclasses import dataclass, field

from recon.model.heads import GaussianHeadConfig
from recon.model.layers.pyramid import PyramidConfig


@dataclass(frozen=True)
class EpipolarConfig:
    """Defaults follow pixelSplat where it says, in the size of our other networks."""

    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    """Features, and the transformer over the tokens of one view (pixelSplat: ResNet and DINO)."""
    rounds: int = 2
    """EpipolarNetwork attention layers."""
    heads: int = 4
    """Attention heads of those."""
    samples: int = 32
    """Points on an epipolar line."""
    sources: int = 4
    """Other views that each view looks at, at most."""
    buckets: int = 32
    """Depth buckets of a pixel, even in disparity."""
    gaussians: int = 3
    """Gaussians of a pixel: as many draws of a bucket, or its likeliest ones when not training."""
    opacity_exponent: float = 8.0
    """Probability to opacity, see depth.py: 1 makes them equal (pixelSplat), more starts fuller."""
    recompute: bool = False
    """Compute blocks again in the backward pass, to save memory."""
    head: GaussianHeadConfig = field(default_factory=lambda: GaussianHeadConfig(sh_degree=1))
    """Activations; depth must be `disparity`."""

    def __post_init__(self) -> None:
        if self.head.depth != "disparity":
            raise ValueError("the buckets lie evenly in disparity: head.depth too")
        if self.gaussians > self.buckets:
            raise ValueError("gaussians must not exceed buckets")


SIZES = {
    "tiny": EpipolarConfig(
        PyramidConfig((16, 16, 32), width=64, layers=2, heads=2), heads=2, samples=16
    ),
    "small": EpipolarConfig(PyramidConfig((24, 48, 64), width=128, layers=4)),
    "base": EpipolarConfig(),
}
