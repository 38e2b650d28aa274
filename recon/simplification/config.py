"""Configuration of the simplification. Imports nothing heavy."""

from dataclasses import dataclass

from recon.errors import ConfigError
from recon.validation import check_types


@dataclass(frozen=True)
class SimplifyConfig:
    """Number of Gaussians to remove, and which ones may be removed."""

    fraction: float = 0.5
    """Fraction of the Gaussians to remove, in [0, 1), if that many can be pruned or merged."""
    max_gaussians: int = 400_000
    """Maximum number of Gaussians to leave, for which more than the fraction is removed."""
    min_weight: float = 0.004
    """Gaussians whose weight is below this in every pixel are pruned; 1 / 255 is invisible."""
    cluster_sizes_px: tuple[float, ...] = (2.0, 3.0, 4.0, 6.0)
    """Sizes of clusters in which Gaussians may be merged (px), in increasing order; the first
    sufficient one is used."""

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.fraction < 1:
            raise ConfigError(f"fraction must be in [0, 1), got {self.fraction}", "fraction")
        if self.max_gaussians < 1:
            raise ConfigError(
                f"max_gaussians must be at least 1, got {self.max_gaussians}", "max_gaussians"
            )
