"""Options that `recon INPUT` and `recon eval` have in common."""

from dataclasses import dataclass
from typing import Annotated

from recon.cli.arguments import Arg, UsageError
from recon.config import (
    OptimiseConfig,
    PoseConfig,
    PoseSource,
    ReconstructConfig,
    SimplifyConfig,
    ViewConfig,
)


@dataclass(frozen=True)
class ReconstructOptions:
    """Options of a reconstruction."""

    cameras: Annotated[PoseSource, Arg(flags=("--camera-source", "--cameras"), title="Cameras")] = (
        PoseConfig.source
    )
    """given: use the cameras of the capture, and fail if it has none; solve: estimate them from the
    photos with COLMAP (extra `sfm`) even if some are given; auto: solve if none are given."""
    metric_scale: float = PoseConfig.metric_scale
    """Scale factor for the scene and its cameras, e.g. metres per world unit. The scale of
    estimated cameras is arbitrary."""
    center: bool = PoseConfig.center
    """Move the mean camera position to the origin."""
    no_cache: bool = not PoseConfig.cache
    """Estimate the cameras again, even if they were estimated for the same photos before, and do
    not store them."""
    model: Annotated[str, Arg(metavar="NAME|FILE", title="Reconstruction")] = (
        ReconstructConfig.model
    )
    """Model: cost-volume (the bundled network), plane-sweep or constant-depth (baseline methods),
    or a checkpoint file (.safetensors)."""
    max_views: int = ViewConfig.max_views
    """Maximum number of photos to use; if there are more, those whose cameras are best spread. With
    a single photo, depth is a guess."""
    max_gaussians: int | None = SimplifyConfig.max_gaussians
    """Maximum number of Gaussians in the scene [default: 400,000, no limit with --refine 0]."""
    resolution: Annotated[int, Arg(metavar="PX")] = ViewConfig.resolution
    """Length of the longer image side in pixels. Every pixel becomes a Gaussian before pruning."""
    refine: Annotated[str, Arg(metavar="STEPS|TIME")] = str(OptimiseConfig.steps)
    """Test-time optimisation: number of steps, or a time limit such as 20s; 0 disables it. The
    number is for up to 3 photos and grows with more."""
    prune: Annotated[float, Arg(metavar="FRACTION")] = SimplifyConfig.fraction
    """Fraction of the Gaussians to remove before the optimisation, in [0, 1): those that no photo
    sees are pruned first, then similar neighbours are merged. Has no effect with --refine 0."""
    device: Annotated[str, Arg(metavar="DEVICE")] = ReconstructConfig.device
    """Device to compute on: auto, cpu, cuda or cuda:N; auto uses a CUDA GPU if there is one."""
    seed: int = ReconstructConfig.seed
    """Seed of the random number generators."""

    def config(self) -> ReconstructConfig:
        """Build the configuration of the library."""
        return ReconstructConfig(
            views=ViewConfig(self.max_views, self.resolution),
            poses=PoseConfig(self.cameras, self.metric_scale, self.center, not self.no_cache),
            model=self.model,
            simplify=SimplifyConfig(self.prune, self.max_gaussians),
            optimise=parse_refine(self.refine),
            device=self.device,
            seed=self.seed,
        )


def parse_refine(text: str) -> OptimiseConfig:
    """Read "45" as a number of steps and "20s" as a time limit."""
    number = text.removesuffix("s")
    if not number.isdecimal():
        raise UsageError(f"--refine: expected steps (45) or seconds (20s), found {text!r}")
    if text.endswith("s"):
        return OptimiseConfig.for_seconds(float(number))
    return OptimiseConfig(steps=int(number))
