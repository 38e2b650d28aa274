"""Options that `recon INPUT` and `recon eval` have in common."""

import re
from dataclasses import dataclass, replace
from typing import Annotated

from recon.cli.arguments import Arg, UsageError, refuse_idle
from recon.config import (
    CAMERA_LR,
    OptimiseConfig,
    PoseConfig,
    PoseSource,
    Quality,
    ReconstructConfig,
    SimplifyConfig,
    ViewConfig,
)
from recon.errors import shortened

# A time, and a number of steps, of few enough digits to make sense.
TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)")
STEPS = re.compile(r"[0-9]{1,9}")

# When options of the optimisation have no effect.
WITHOUT_STEPS = "without the optimisation (--refine 0)"


@dataclass(frozen=True)
class ReconstructOptions:
    """Options of a reconstruction."""

    cameras: Annotated[PoseSource, Arg(flags=("--camera-source", "--cameras"), title="Cameras")] = (
        PoseConfig.source
    )
    """given: use the cameras of the capture, and fail if it has none; solve: estimate them from the
    photos with COLMAP (extra `sfm`) even if some are given; auto: solve if none are given."""
    refine_cameras: bool = False
    """Correct the poses of the cameras with the scene, from 5 photos on; corrections of less than
    half a pixel are dropped. --save-cameras writes the corrected ones."""
    metric_scale: float = PoseConfig.metric_scale
    """Scale factor for the scene and its cameras, e.g. metres per world unit. The scale of
    estimated cameras is arbitrary."""
    marker_size: Annotated[float | None, Arg(metavar="METRES")] = PoseConfig.marker_size
    """Scale the scene by ArUco or AprilTag markers in the photos: the side of their black square,
    e.g. 0.1. Where cameras are estimated, markers that lie level also say where down is."""
    gps: bool = PoseConfig.gps
    """Put estimated cameras into metres, x east, y north and z up, by the GPS positions of the
    photos."""
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
    quality: Quality = "standard"
    """draft takes about a third of the time of standard, and high three times as long. With --time,
    it only sets the maximum numbers of steps and of photos that depth is predicted from (16, 32 or
    48): draft leaves more of the time for steps."""
    time: Annotated[str | None, Arg(metavar="TIME")] = None
    """Time that the whole run may take, in seconds, minutes or hours (40s, 3m, 1h). It is used up,
    as far as more steps improve the scene, and therefore excludes --refine (except for 0)."""
    max_views: int = ViewConfig.max_views
    """Maximum number of photos to use; if there are more, those whose cameras are best spread. With
    a single photo, depth is a guess."""
    max_gaussians: int | None = SimplifyConfig.max_gaussians
    """Maximum number of Gaussians in the scene [default: 120,000, with up to four photos 400,000,
    more above 512 px, with --refine 0 no limit]."""
    resolution: Annotated[int, Arg(metavar="PX")] = ViewConfig.resolution
    """Length of the longer image side in pixels, at which the scene is optimised."""
    refine: Annotated[str | None, Arg(metavar="STEPS|TIME")] = None
    """Test-time optimisation: number of steps, or a time limit (20s, 1m); 0 disables it. The
    number is for up to 3 photos and grows with more [default: 45, with --quality draft 15 and
    high 135]."""
    prune: Annotated[float | None, Arg(metavar="FRACTION")] = SimplifyConfig.fraction
    """Fraction of the Gaussians to remove before the optimisation, in [0, 1): those that no photo
    sees are pruned first, then similar neighbours are merged. Not with --refine 0
    [default: 0.5, with more than four photos as many as --max-gaussians asks for]."""
    transients: bool = ReconstructConfig.transients
    """Leave out what only one photo shows where others see something else, such as passers-by;
    from 4 photos on."""
    device: Annotated[str, Arg(metavar="DEVICE")] = ReconstructConfig.device
    """Device to compute on: auto, cpu, cuda or cuda:N; auto uses a CUDA GPU if there is one."""
    seed: int = ReconstructConfig.seed
    """Seed of the random number generators."""
    strict: bool = False
    """Stop if a photo cannot be read or a file is not used, instead of leaving it out with a
    warning."""

    def config(self) -> ReconstructConfig:
        """Build the configuration of the library."""
        base = ReconstructConfig.for_quality(self.quality)
        optimise = base.optimise if self.refine is None else parse_refine(self.refine)
        if optimise.steps == 0:
            # --prune 0 says what happens.
            idle = ("refine_cameras", "prune") if self.prune else ("refine_cameras",)
            refuse_idle(self, idle, WITHOUT_STEPS)
        elif self.refine is not None and self.time is not None:
            raise UsageError("--time and --refine exclude each other; pass one of them")
        if self.cameras == "given":
            refuse_idle(self, ("no_cache",), "on given cameras")
        if self.refine_cameras:
            optimise = replace(optimise, lr_camera=CAMERA_LR)
        most = base.simplify.max_gaussians if self.max_gaussians is None else self.max_gaussians
        return replace(
            base,
            views=ViewConfig(self.max_views, self.resolution),
            poses=PoseConfig(
                source=self.cameras,
                metric_scale=self.metric_scale,
                marker_size=self.marker_size,
                gps=self.gps,
                center=self.center,
                cache=not self.no_cache,
            ),
            model=self.model,
            simplify=SimplifyConfig(self.prune, most),
            optimise=optimise,
            transients=self.transients,
            seconds=None if self.time is None else parse_limit("--time", self.time),
            device=self.device,
            seed=self.seed,
        )


def parse_time(flag: str, text: str) -> float:
    """Read "40s", "3m" or "1.5h" as seconds."""
    match = TIME.fullmatch(text)
    if match is None:
        raise UsageError(f"{flag}: expected a time such as 40s, 3m or 1h, found {shortened(text)}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def parse_limit(flag: str, text: str) -> float:
    """Read a time above zero as seconds."""
    seconds = parse_time(flag, text)
    if seconds == 0:
        raise UsageError(f"{flag}: expected a time above 0 such as 40s, found {shortened(text)}")
    return seconds


def parse_refine(text: str) -> OptimiseConfig:
    """Read "45" as a number of steps, and "20s" or "1m" as a time limit."""
    if STEPS.fullmatch(text):
        return OptimiseConfig(steps=int(text))
    if TIME.fullmatch(text):
        return OptimiseConfig.for_seconds(parse_time("--refine", text))
    raise UsageError(
        f"--refine: expected steps such as 45 or a time such as 20s, found {shortened(text)}"
    )
