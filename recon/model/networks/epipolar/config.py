"""Configuration of the network `epipolar`.

Field names are stored in the headers of checkpoints: renaming one breaks existing files.
"""

from dataclasses import dataclass, field

from recon.model.heads import GaussianHeadConfig
from recon.model.layers.pyramid import PyramidConfig


@dataclass(frozen=True)
class EpipolarConfig:
    """Shape of the network; the defaults follow pixelSplat at the width of our other networks."""

    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    """Feature pyramid and the transformer over one view's tokens (pixelSplat: ResNet and DINO)."""
    rounds: int = 2
    """Number of epipolar attention layers."""
    heads: int = 4
    """Attention heads of those layers."""
    samples: int = 32
    """Number of points on an epipolar line."""
    sources: int = 4
    """Maximum number of source views of each view."""
    buckets: int = 32
    """Depth buckets per pixel, uniform in disparity."""
    gaussians: int = 3
    """Gaussians per pixel: samples of the buckets in training, else the likeliest buckets."""
    opacity_exponent: float = 8.0
    """Exponent of the map from probability to opacity (depth.py): 1 makes them equal
    (pixelSplat), larger ones start with more opaque Gaussians."""
    recompute: bool = False
    """Recompute activations in the backward pass, to save memory."""
    head: GaussianHeadConfig = field(default_factory=lambda: GaussianHeadConfig(sh_degree=1))
    """Activations; `depth` must be disparity."""

    def __post_init__(self) -> None:
        if self.head.depth != "disparity":
            raise ValueError("depth buckets are uniform in disparity: head.depth must be too")
        if self.gaussians > self.buckets:
            raise ValueError("gaussians must not exceed buckets")


SIZES = {
    "tiny": EpipolarConfig(
        PyramidConfig((16, 16, 32), width=64, layers=2, heads=2), heads=2, samples=16
    ),
    "small": EpipolarConfig(PyramidConfig((24, 48, 64), width=128, layers=4)),
    "base": EpipolarConfig(),
}
