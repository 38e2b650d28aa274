"""Configuration of the simplification. Imports nothing heavy."""

import itertools
import math
import sys
from dataclasses import dataclass, replace

from recon.errors import ConfigError
from recon.validation import check_types

# Maximum number of Gaussians of a scene that is optimised, unless the user sets another: up to this
# size of images, and for any size. Between them it grows with the number of pixels.
DEFAULT_MAX_GAUSSIANS, DEFAULT_SIDE_PX, LARGEST_DEFAULT = 120_000, 512, 1_000_000
# The same for fewer views than this, whose few steps cannot make up for such a loss of detail.
MAX_GAUSSIANS_FEW, NUM_VIEWS_MANY = 400_000, 5
# Fraction to remove for fewer views than that. Of more, whose depth maps are smaller, only the
# maximum decides.
FRACTION_FEW = 0.5


@dataclass(frozen=True)
class SimplifyConfig:
    """Number of Gaussians to remove, and which ones may be removed."""

    fraction: float | None = None
    """Fraction of the Gaussians to remove, in [0, 1), if that many can be pruned or merged. None
    stands for 0.5 with up to four views; with more, `max_gaussians` decides alone."""
    max_gaussians: int | None = None
    """Maximum number of Gaussians to leave, for which more than the fraction is removed. None
    stands for 120,000 (with up to four views 400,000) at 512 px and more for larger images before
    an optimisation, and for no limit without one."""
    min_weight: float = 0.004
    """Gaussians whose weight is below this in every pixel are pruned; 1 / 255 is invisible."""
    cluster_sizes_px: tuple[float, ...] = (2.0, 4.0, 8.0)
    """Sizes of clusters in which Gaussians may be merged (px), each a multiple of the one before;
    how large they are where depends on the colours."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.fraction is not None and not 0 <= self.fraction < 1:
            raise ConfigError(f"fraction must be in [0, 1), got {self.fraction}", "fraction")
        if self.max_gaussians is not None and self.max_gaussians < 1:
            raise ConfigError(
                f"max_gaussians must be at least 1, got {self.max_gaussians}", "max_gaussians"
            )

        if not 0 <= self.min_weight < 1:
            raise ConfigError(f"min_weight must be in [0, 1), got {self.min_weight}", "min_weight")
        sizes = self.cluster_sizes_px
        if not sizes or not all(0 < size < math.inf for size in sizes):
            raise ConfigError(
                f"cluster_sizes_px must be above 0, got {self.cluster_sizes_px}", "cluster_sizes_px"
            )
        for small, large in itertools.pairwise(sizes):
            if large <= small or large % small != 0:
                raise ConfigError(
                    "cluster_sizes_px must be multiples, each of the one before, got "
                    f"{self.cluster_sizes_px}",
                    "cluster_sizes_px",
                )

    def without_optimisation(self) -> "SimplifyConfig":
        """Return the settings for a scene that is not optimised: only a stated limit applies."""
        limit = sys.maxsize if self.max_gaussians is None else self.max_gaussians
        return replace(self, fraction=0.0, max_gaussians=limit)

    def removed(self, num_views: int) -> float:
        """Return the fraction of the Gaussians to remove, for a number of views."""
        if self.fraction is not None:
            return self.fraction
        return FRACTION_FEW if num_views < NUM_VIEWS_MANY else 0.0

    def limit(self, side_px: int, num_views: int = NUM_VIEWS_MANY) -> int:
        """Return the maximum number of Gaussians to leave.

        Args:
            side_px: Long side of the images.
            num_views: Number of views.
        """
        if self.max_gaussians is not None:
            return self.max_gaussians
        more = max(side_px / DEFAULT_SIDE_PX, 1.0) ** 2
        most = MAX_GAUSSIANS_FEW if num_views < NUM_VIEWS_MANY else DEFAULT_MAX_GAUSSIANS
        return min(int(more * most), LARGEST_DEFAULT)
