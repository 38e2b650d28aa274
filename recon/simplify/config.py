"""Configuration of the simplification. Imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SimplifyConfig:
    """Number of Gaussians to remove, and which ones may be removed."""

    fraction: float = 0.5
    """Fraction of the Gaussians to remove, in [0, 1), if that many can be pruned or merged."""
    min_weight: float = 0.004
    """Weight that a pruned Gaussian stays below in every pixel; 1 / 255 is invisible."""
    cluster_sizes_px: tuple[float, ...] = (2.0, 3.0, 4.0, 6.0)
    """Sizes of clusters in which Gaussians may be merged (px), in increasing order; the first one
    that suffices is taken."""
