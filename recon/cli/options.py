"""Options that `recon INPUT` and `recon eval` share."""

from dataclasses import dataclass

from recon.config import (
    CameraSource,
    OptimiseConfig,
    PoseConfig,
    ReconstructConfig,
    SimplifyConfig,
    ViewConfig,
)
from recon.errors import ReconError


@dataclass(frozen=True)
class ReconstructOptions:
    """Options of a reconstruction."""

    cameras: CameraSource = PoseConfig.source
    """given: use the capture's cameras and fail without them; solve: find them by comparing the
    photos (COLMAP, the extra `sfm`), whatever is given; auto: solve if none are given."""
    metric_scale: float = PoseConfig.metric_scale
    """Scale factor for the scene and its cameras, such as metres per world unit. The scale of
    solved cameras is arbitrary."""
    center: bool = PoseConfig.center
    """Move the mean camera position to the origin."""
    cache: bool = PoseConfig.cache
    """Keep solved cameras, and take those that were found for the same photos before."""
    model: str = ReconstructConfig.model
    """Model by name: cost-volume (the bundled network), plane-sweep, or constant-depth (a
    baseline); or a checkpoint file (.safetensors) of a trained network."""
    max_views: int = ViewConfig.max_views
    """Maximum number of photos to use; of more, those whose cameras are spread best are taken.
    From a single photo, depth is guessed."""
    resolution: int = ViewConfig.resolution
    """Long side at which photos are used (px); every pixel becomes a Gaussian, before pruning."""
    refine: str = str(OptimiseConfig.steps)
    """Test-time optimisation: a number of steps, or a time limit such as 20s; 0 disables it. The
    number is doubled for 4 or more photos, and grows with their number from 9 on."""
    prune: float = SimplifyConfig.fraction
    """Fraction of the Gaussians to remove before the optimisation, in [0, 1): those that no photo
    shows are pruned, then similar neighbours are merged. No effect with --refine 0."""
    device: str = ReconstructConfig.device
    """Device of all computations: auto, cpu, cuda or cuda:1; auto takes a CUDA GPU if there is
    one."""
    seed: int = ReconstructConfig.seed
    """Seed of all random numbers."""

    def config(self) -> ReconstructConfig:
        """Build the configuration of the library."""
        return ReconstructConfig(
            views=ViewConfig(self.max_views, self.resolution),
            poses=PoseConfig(self.cameras, self.metric_scale, self.center, self.cache),
            model=self.model,
            simplify=SimplifyConfig(fraction=self.prune),
            optimise=parse_refine(self.refine),
            device=self.device,
            seed=self.seed,
        )


def parse_refine(text: str) -> OptimiseConfig:
    """Read "45" as a number of steps and "20s" as a time limit; ReconError for anything else."""
    number = text.removesuffix("s")
    if not number.isdecimal():
        raise ReconError(f"--refine must be steps (45) or seconds (20s), got {text!r}")
    if text.endswith("s"):
        return OptimiseConfig.for_seconds(float(number))
    return OptimiseConfig(steps=int(number))
