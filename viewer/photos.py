"""The photos of a capture and their cameras, as the viewer displays them."""

from dataclasses import dataclass, replace

import numpy as np

from recon.capture import Capture, load_views, pinhole_cameras
from recon.types import Views
from render import Cameras
from render.video import to_bytes

THUMBNAIL_PX, PHOTO_PX = 160, 768
# More frustums than this could not be told apart.
MAX_PHOTOS = 64
# Number and long side of the cameras that contributions are measured with.
MAX_CONTRIBUTION_CAMERAS, CONTRIBUTION_PX = 16, 512


@dataclass(frozen=True)
class Photos:
    """Photos with cameras; their files are read on demand."""

    capture: Capture

    @staticmethod
    def of(capture: Capture) -> "Photos":
        """Take at most MAX_PHOTOS of a capture, evenly spaced in its order."""
        frames = tuple(frame for frame in capture.frames if frame.camera is not None)
        chosen = _evenly_spaced(len(frames), MAX_PHOTOS)
        return Photos(replace(capture, frames=tuple(frames[i] for i in chosen)))

    def __len__(self) -> int:
        return len(self.capture.frames)

    def cameras(self) -> Cameras:
        """Return the cameras of all photos, without distortion and with one image size."""
        return pinhole_cameras(self.capture)

    def contribution_cameras(self) -> Cameras:
        """Return a few cameras with small images, to measure contributions with."""
        cameras = self.cameras()
        ratio = CONTRIBUTION_PX / max(cameras.width, cameras.height)
        small = cameras.resized(round(ratio * cameras.width), round(ratio * cameras.height))
        return small[_evenly_spaced(len(cameras), MAX_CONTRIBUTION_CAMERAS)]

    def name(self, index: int) -> str:
        """Return the name of a photo within its capture."""
        return self.capture.frames[index].name

    def view(self, index: int) -> Views:
        """Load one photo, undistorted, at PHOTO_PX.

        Raises:
            ReconError: when its file cannot be read.
        """
        return load_views([self.capture.frames[index]], PHOTO_PX)

    def thumbnail(self, index: int) -> np.ndarray:
        """Load one photo, undistorted, at THUMBNAIL_PX: bytes [h, w, 3].

        Raises:
            ReconError: when its file cannot be read.
        """
        return to_bytes(load_views([self.capture.frames[index]], THUMBNAIL_PX).images[0])


def _evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most `most` evenly spaced indices below `count`."""
    return [round(float(x)) for x in np.linspace(0, count - 1, min(count, most))]
