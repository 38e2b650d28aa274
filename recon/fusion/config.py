"""Configuration of the fusion of many views. Imports nothing heavy."""

import math
from dataclasses import dataclass, fields

from recon.errors import ConfigError
from recon.validation import check_types


@dataclass(frozen=True)
class FusionConfig:
    """How Gaussians are predicted from many views, and which of them are removed.

    The values were chosen by experiment (docs/experiments/whole-captures.md).
    """

    min_views: int = 5
    """From this number of views on they are predicted in groups; fewer are one group."""
    max_views: int = 32
    """Maximum number of geometry views: views that Gaussians are predicted from. All others only
    supervise the optimisation."""
    group_size: int = 4
    """Number of views that are matched with each other; memory grows with it."""
    resolution: int = 256
    """Length of the long side at which groups are predicted (px)."""
    confirmations: int = 2
    """Number of other views of a group that must confirm a depth at which images match better
    than at the network's, for it to be taken before an optimisation. With fewer views, one must:
    nothing else shows what they miss."""
    few_resolution: int = 384
    """The same for fewer views, before an optimisation, but at least half of theirs; without an
    optimisation they keep their size."""
    min_views_checked: int = 2
    """From this number of views on, before an optimisation, depth is corrected where images match
    better at another, and Gaussians that contradict other views are removed; the network does
    without error feedback then."""
    tolerance: float = 0.05
    """Relative difference of depths up to which two views agree."""
    edge_px: int = 4
    """Uncertainty of the position of depth edges (px)."""
    max_violation: float = 0.5
    """Views that see through a Gaussian remove it if their confidence exceeds this fraction of the
    confidence of the views that agree with it."""
    min_support: float = 1.0
    """Confidence of other views that a Gaussian near another camera than its own needs, so that
    nothing without parallax stands in front of surfaces when one steps back."""
    near_other: float = 0.5
    """Distance to another camera, relative to that to the own one, which counts as near."""
    min_views_supported: int = 9
    """From this number of geometry views on, support is required: few see too little in common."""
    free_radius: float = 0.7
    """Radius around each camera in which a Gaussian needs support as well, relative to the nearest
    depth that the camera sees."""

    def __post_init__(self) -> None:
        check_types(self)
        at_least = {"min_views": 2, "max_views": 2, "group_size": 2, "resolution": 32}
        at_least["few_resolution"] = at_least["resolution"]
        for field in fields(self):
            least, value = at_least.get(field.name, 0), getattr(self, field.name)
            if not least <= value < math.inf:
                raise ConfigError(f"{field.name} must be at least {least}, got {value}", field.name)

    def few_side(self, side: int) -> int:
        """Return the length of the long side at which few views are predicted (px).

        Args:
            side: Length of the long side of the views.
        """
        return max(min(self.few_resolution, side), side // 2)
