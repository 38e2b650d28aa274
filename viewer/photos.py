"""The photos of a capture, as the viewer shows them."""

from dataclasses import dataclass, replace

import numpy as np

from recon.capture import Capture, load_views, pinhole_cameras
from recon.types import Views
from render import Cameras
from render.video import to_bytes

THUMBNAIL_PX, PHOTO_PX = 160, 768
# With more frustums than this nothing could be told apart.
MAX_SHOWN = 64
# To measure contributions: so many cameras, of this long side.
MAX_JUDGES, JUDGE_PX = 16, 512


@dataclass(frozen=True)
class Photos:
    """Photos with cameras; pictures are read when they are asked for."""

    capture: Capture

    @staticmethod
    def of(capture: Capture) -> "Photos":
        """At most MAX_SHOWN, evenly spread over their names."""
        frames = tuple(frame for frame in capture.frames if frame.camera is not None)
        chosen = _evenly(len(frames), MAX_SHOWN)
        return Photos(replace(capture, frames=tuple(frames[i] for i in chosen)))

    def __len__(self) -> int:
        return len(self.capture.frames)

    def cameras(self) -> Cameras:
        """Of all, without distortion, for pictures of one size."""
        return pinhole_cameras(self.capture)

    def judges(self) -> Cameras:
        """Some of them, small: to measure what matters."""
        cameras = self.cameras()
        share = JUDGE_PX / max(cameras.width, cameras.height)
        small = cameras.resized(round(share * cameras.width), round(share * cameras.height))
        return small[_evenly(len(cameras), MAX_JUDGES)]

    def name(self, number: int) -> str:
        """What the capture calls it."""
        return self.capture.frames[number].name

    def photo(self, number: int) -> Views:
        """One of them, undistorted, at PHOTO_PX; ReconError when its file cannot be read."""
        return load_views([self.capture.frames[number]], PHOTO_PX)

    def thumbnail(self, number: int) -> np.ndarray:
        """The same, small, [h, w, 3] bytes."""
        return to_bytes(load_views([self.capture.frames[number]], THUMBNAIL_PX).images[0])


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
