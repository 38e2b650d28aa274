"""What a user hands in: frames with or without cameras, before any pixel is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

DistortionModel = Literal["none", "opencv", "fisheye"]
CaptureKind = Literal["images", "transforms", "colmap", "llff", "solved", "video"]


@dataclass(frozen=True)
class FrameCamera:
    """A calibrated camera as the capture gives it, before undistortion."""

    viewmat: Float[Tensor, "4 4"]
    """Camera from world, float64, OpenCV axes, the capture's own frame and scale."""
    K: Float[Tensor, "3 3"]
    """Intrinsics in pixels of the original picture, float64; pixel centres at +0.5."""
    width: int
    height: int
    distortion: DistortionModel = "none"
    coefficients: tuple[float, ...] = ()
    """OpenCV order: (k1 k2 p1 p2 k3 k4 k5 k6) for opencv, (k1 k2 k3 k4) for fisheye."""


@dataclass(frozen=True)
class Frame:
    """One photo: where it lies and what is known about it."""

    name: str
    """The path as the capture names it, relative to its folder, with forward slashes."""
    image_path: Path
    camera: FrameCamera | None = None
    mask_path: Path | None = None
    """A grey picture of the same size; black pixels are left out of the scene."""
    points: Float[Tensor, "m 3"] | None = None
    """Structure-from-motion points that this photo sees, world frame, float64."""
    depth_bounds: tuple[float, float] | None = None
    """Nearest and farthest depth (z, world units), when the capture states them."""


@dataclass(frozen=True)
class Capture:
    """A folder of photos as it was found, in file order."""

    root: Path
    kind: CaptureKind
    frames: tuple[Frame, ...]
    origin: Path | None = None
    """What the user named, where that is not the root: a video."""

    @property
    def title(self) -> Path:
        """What messages call it."""
        return self.origin or self.root

    @property
    def has_cameras(self) -> bool:
        """Whether every frame has a camera."""
        return all(frame.camera is not None for frame in self.frames)
