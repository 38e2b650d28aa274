"""What a user can choose about a reconstruction. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

from recon.errors import ConfigError

# Photos that are taken from a video.
VIDEO_FRAMES = 40
MIN_RESOLUTION_PX = 32


@dataclass(frozen=True)
class ReconstructSettings:
    """Settings of `recon.reconstruct`, all with defaults."""

    cameras: Literal["auto", "given", "solve"] = "auto"
    """given: use the capture's cameras and fail without them; solve: find them by comparing the
    photos (COLMAP, the extra `sfm`), whatever is given; auto: solve if none are given."""
    metric_scale: float = 1.0
    """Make the scene and its cameras so many times as large: metres per unit of the cameras' frame,
    to have it in metres. The scale of solved cameras is arbitrary."""
    center: bool = False
    """Move the middle of the cameras to the origin."""
    cache: bool = True
    """Keep solved cameras, and take those that were found for the same photos before."""
    model: str = "cost-volume"
    """Model by name: cost-volume (the bundled network), plane-sweep or constant-depth (a
    baseline); or a checkpoint file (.safetensors) of a trained network."""
    max_views: int = 8
    """Most photos to use; of more, the best spread ones are taken (photos). From one photo, depth
    is a guess."""
    resolution: int = 512
    """Long side at which photos are used; every pixel becomes a Gaussian, before pruning (px)."""
    refine: str = "45"
    """Improve the scene on the photos it came from, for so many steps (45; twice as many from four
    photos on, more from nine on) or seconds (20s); 0 leaves it as the model made it."""
    prune: float = 0.5
    """Part of the Gaussians to get rid of before they are improved (0 to below 1): those that no
    photo shows, then those whose neighbours look alike, which become one. Not without --refine,
    which mends what that costs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a CUDA GPU when there is one."""
    seed: int = 0
    """Seed of all random numbers."""


def check_views(max_views: int, resolution: int) -> None:
    """ReconError when no scene can be told from so many photos of this long side (px)."""
    if max_views < 1:
        raise ConfigError(f"max_views must be at least 1, got {max_views}", "max_views")
    if resolution < MIN_RESOLUTION_PX:
        raise ConfigError(
            f"resolution must be at least {MIN_RESOLUTION_PX} px, got {resolution}", "resolution"
        )
