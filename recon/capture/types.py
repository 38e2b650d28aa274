"""What a user hands in: frames with or without cameras, before any pixel is read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras

DistortionModel = Literal["none", "opencv", "fisheye"]
# Told the stage of a long task and how much of it is done (0 to 1).
StageProgress = Callable[[str, float], None]
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


@dataclass(frozen=True)
class Views:
    """Pictures of one size with their pinhole cameras, ready for a model."""

    images: Float[Tensor, "v 3 h w"]
    """Display sRGB in [0, 1], undistorted; black where the mask is 0."""
    masks: Float[Tensor, "v 1 h w"]
    """1 = part of the scene, 0 = left out (masked, transparent or outside the photo)."""
    valid: Float[Tensor, "v 1 h w"]
    """1 = inside the photo, 0 = where undistortion or padding has nothing to show."""
    cameras: Cameras
    names: tuple[str, ...]
    depth_bounds: Float[Tensor, "v 2"] | None = None
    """Nearest and farthest depth per view (z, world units), when the capture tells."""

    def __len__(self) -> int:
        return len(self.names)

    def select(self, which: slice | list[int]) -> "Views":
        """Some of the views."""
        numbers = range(len(self))[which] if isinstance(which, slice) else which
        bounds = None if self.depth_bounds is None else self.depth_bounds[which]
        return Views(
            self.images[which],
            self.masks[which],
            self.valid[which],
            self.cameras[which],
            tuple(self.names[i] for i in numbers),
            bounds,
        )

    def to(self, device: torch.device) -> "Views":
        """The views on another device."""
        bounds = None if self.depth_bounds is None else self.depth_bounds.to(device)
        return Views(
            self.images.to(device),
            self.masks.to(device),
            self.valid.to(device),
            self.cameras.to(device),
            self.names,
            bounds,
        )

    def resized(self, scale: float) -> "Views":
        """The views with pictures and cameras at another size, by area."""
        height, width = (max(round(side * scale), 8) for side in self.images.shape[-2:])

        def shrink(pictures: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(pictures, (height, width), mode="area")

        return replace(
            self,
            images=shrink(self.images),
            masks=shrink(self.masks),
            valid=shrink(self.valid),
            cameras=self.cameras.resized(width, height),
        )
