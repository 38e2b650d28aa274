"""The configuration of a reconstruction."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from recon.errors import ConfigError, did_you_mean
from recon.fusion.config import FusionConfig as FusionConfig
from recon.optimisation.config import CAMERA_LR as CAMERA_LR
from recon.optimisation.config import OptimiseConfig as OptimiseConfig
from recon.simplification.config import SimplifyConfig as SimplifyConfig
from recon.validation import check_types

MIN_RESOLUTION_PX = 32
# Range of the scale factor: world units are in single precision.
MIN_SCALE, MAX_SCALE = 1e-9, 1e9
PoseSource = Literal["auto", "given", "solve"]
Quality = Literal["draft", "standard", "high"]


@dataclass(frozen=True)
class ViewConfig:
    """Which photos are used, and at which size."""

    max_views: int = 500
    """Maximum number of photos; if there are more, those whose cameras are best spread are used."""
    resolution: int = 512
    """Length of the long side at which photos are used (px); smaller photos are not enlarged."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.max_views < 1:
            raise ConfigError(f"max_views must be at least 1, got {self.max_views}", "max_views")
        if self.resolution < MIN_RESOLUTION_PX:
            raise ConfigError(
                f"resolution must be at least {MIN_RESOLUTION_PX} px, got {self.resolution}",
                "resolution",
            )


@dataclass(frozen=True)
class PoseConfig:
    """Where cameras come from, and the world frame they are in."""

    source: PoseSource = "auto"
    """`given`: use the capture's cameras and fail without them. `solve`: solve the cameras by
    structure from motion, even if some are given. `auto`: solve only if none are given."""
    metric_scale: float = 1.0
    """Scale factor of the scene and its cameras, such as metres per world unit. The scale of
    solved cameras is arbitrary."""
    marker_size: float | None = None
    """Scale the scene so that the black squares of the ArUco and AprilTag markers in the photos
    have sides of this length, such as 0.1 for 10 cm in metres."""
    gps: bool = False
    """Put solved cameras into metres east, north and up by the GPS positions of the photos."""
    center: bool = False
    """Move the mean camera position to the origin."""
    cache: bool = True
    """Store solved cameras on disk, and reuse those of an earlier run on the same photos."""

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 < self.metric_scale < math.inf:
            raise ConfigError(
                f"metric_scale must be above 0, got {self.metric_scale}", "metric_scale"
            )
        if not MIN_SCALE <= self.metric_scale <= MAX_SCALE:
            raise ConfigError(
                f"metric_scale must be from {MIN_SCALE:g} to {MAX_SCALE:g}, got "
                f"{self.metric_scale}",
                "metric_scale",
            )
        if self.marker_size is not None and not MIN_SCALE <= self.marker_size <= MAX_SCALE:
            raise ConfigError(
                f"marker_size must be from {MIN_SCALE:g} to {MAX_SCALE:g}, got {self.marker_size}",
                "marker_size",
            )
        chosen = {
            "metric_scale": self.metric_scale != 1,
            "marker_size": self.marker_size is not None,
            "gps": self.gps,
        }
        names = [name for name, is_set in chosen.items() if is_set]
        if len(names) > 1:
            raise ConfigError(f"{names[1]} excludes {names[0]}: both set the scale", names[1])


@dataclass(frozen=True)
class ReconstructConfig:
    """Settings of `recon.reconstruct`. All have defaults, and wrong ones raise ConfigError.

    Example:
        ReconstructConfig(views=ViewConfig(max_views=4), optimise=OptimiseConfig(steps=100))
    """

    views: ViewConfig = field(default_factory=ViewConfig)
    """Which photos are used, and at which size."""
    poses: PoseConfig = field(default_factory=PoseConfig)
    """Where cameras come from, and the world frame they are in."""
    model: str = "cost-volume"
    """Name of the model that predicts the Gaussians: `cost-volume` (the bundled network),
    `plane-sweep` (classical), or `constant-depth` (a baseline); or the path of a checkpoint
    file (.safetensors)."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How Gaussians are predicted from many photos, and which of them are removed."""
    simplify: SimplifyConfig = field(default_factory=SimplifyConfig)
    """How many Gaussians are removed before the optimisation. Without optimisation
    (`optimise.steps` = 0) nothing is removed."""
    optimise: OptimiseConfig = field(default_factory=OptimiseConfig)
    """Test-time optimisation: number of steps or seconds, and learning rates."""
    transients: bool = False
    """Whether what only one photo shows, such as a passer-by, is left out of the scene. Needs four
    photos at least."""
    seconds: float | None = None
    """Time limit of the whole reconstruction (s). It is used up: the optimisation takes as many
    steps as fit in, instead of `optimise.steps`, and fewer photos are geometry views if need be."""
    memory_gb: float | None = None
    """Limit of the memory of the process (10^9 bytes), apart from solving cameras. It is estimated
    before the first photo is read; resolutions and numbers are reduced until it is kept."""
    device: str = "auto"
    """Device of all computations: `cpu`, `cuda` or `cuda:1`; `auto` uses a CUDA GPU if there is
    one."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ConfigError(f"seconds must be above 0, got {self.seconds}", "seconds")
        if self.seconds is not None and self.optimise.seconds is not None:
            raise ConfigError(
                "seconds and optimise.seconds exclude each other, since the first is shared out "
                "between all stages; set one of them",
                "seconds",
            )
        if self.memory_gb is not None and not 0 < self.memory_gb < math.inf:
            raise ConfigError(f"memory_gb must be above 0, got {self.memory_gb}", "memory_gb")

    @staticmethod
    def for_quality(quality: Quality) -> "ReconstructConfig":
        """Return the settings of a named quality.

        Args:
            quality: `draft` takes about a third of the time of `standard`, `high` about three
                times as long.

        Raises:
            ConfigError: There is no such quality.
        """
        names = get_args(Quality)
        if quality not in names:
            raise ConfigError(
                f"quality must be one of {', '.join(names)}, got {quality!r}"
                f"{did_you_mean(str(quality), names)}",
                "quality",
            )
        if quality == "draft":
            return ReconstructConfig(
                fusion=FusionConfig(max_views=16),
                optimise=OptimiseConfig(steps=15),
            )
        if quality == "high":
            return ReconstructConfig(
                fusion=FusionConfig(max_views=48),
                optimise=OptimiseConfig(steps=135),
            )
        return ReconstructConfig()
