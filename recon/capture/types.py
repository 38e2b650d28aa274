"""Types of captures: frames with or without cameras, before any pixel is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from render import TensorStruct

DistortionModel = Literal["none", "opencv", "fisheye", "lens"]
CaptureKind = Literal["images", "transforms", "colmap", "llff", "exported", "solved", "video"]


@dataclass(frozen=True)
class FrameCamera(TensorStruct):
    """A calibrated camera, before undistortion."""

    viewmat: Float[Tensor, "4 4"]
    """Camera from world, float64, OpenCV axes, in the world frame and scale of the capture."""
    K: Float[Tensor, "3 3"]
    """Intrinsics in pixels of the original image, float64; pixel centres at +0.5."""
    width: int
    height: int
    distortion: DistortionModel = "none"
    coefficients: tuple[float, ...] = ()
    """In OpenCV's order: (k1 k2 p1 p2 k3 k4 k5 k6) for opencv, (k1 k2 k3 k4) for fisheye; all
    parameters of COLMAP's camera model for lens."""
    lens: str = ""
    """COLMAP's name of the camera model for lens, whose photos `pinhole_photos` converts."""


@dataclass(frozen=True)
class Frame(TensorStruct):
    """A photo: its file, and what the capture says about it."""

    name: str
    """Path as the capture names it, relative to its folder, with forward slashes."""
    image_path: Path
    camera: FrameCamera | None = None
    mask_path: Path | None = None
    """Grey image of the same size; black pixels are excluded from the scene."""
    mask_inverted: bool = False
    """Whether white pixels of the mask are excluded instead."""
    oriented: bool = False
    """Whether the camera belongs to the photo rotated as EXIF says, not to the stored pixels."""
    points: Float[Tensor, "m 3"] | None = None
    """Structure-from-motion points that are visible in this photo, world frame, float64."""
    depth_bounds: tuple[float, float] | None = None
    """Nearest and farthest depth (z, world units), if the capture gives them."""


@dataclass(frozen=True)
class Capture:
    """The photos of a folder or video, in file order."""

    root: Path
    kind: CaptureKind
    frames: tuple[Frame, ...]
    origin: Path | None = None
    """Path that the user gave, where it is not the root: that of a video or an archive."""
    left_out: tuple[str, ...] = ()
    """Names of photos and videos that were found and are not used."""

    @property
    def title(self) -> Path:
        """Path by which messages name the capture."""
        return self.origin or self.root

    @property
    def has_cameras(self) -> bool:
        """Whether every photo has a camera."""
        return all(frame.camera is not None for frame in self.frames)
