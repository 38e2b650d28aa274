"""Decoding of videos into upright frames in sRGB.

OpenCV decodes most videos. PyAV (extra `video`), if it is installed, decodes those that OpenCV
cannot, such as AV1 and interlaced ones, and HDR videos at their full bit depth.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from recon.capture.color import RgbSpace, space_by_codes, srgb_from
from recon.capture.images import resized
from recon.errors import InputError, warn

# Larger headers of a video are not searched, and larger numbers of frames not believed.
MAX_HEADER_BYTES, MAX_FRAMES = 64 << 20, 100_000_000

# Aspect ratios of pixels beyond this are not believed; smaller differences from 1 are rounding.
MAX_ASPECT, ASPECT_TOLERANCE = 4.0, 0.01


def count_frames(path: Path) -> int:
    """Return the number of frames that a video should have; 0 if its header does not tell."""
    with _opened(path) as video:
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    return count if 0 < count <= MAX_FRAMES else 0


@dataclass(frozen=True)
class Raster:
    """How the pixels of a video are laid out."""

    aspect: float = 1.0
    """Width of a pixel over its height, in the frame as it is stored."""
    interlaced: bool = False
    """Whether every second row was taken at another time."""

    def square(self, image: np.ndarray, rotated: bool) -> np.ndarray:
        """Return a frame with square pixels, of one time.

        Args:
            image: The frame, upright.
            rotated: Whether it was stored rotated by a quarter.
        """
        height, width = image.shape[:2]
        if self.interlaced:
            image = image[:, ::2] if rotated else image[::2]
        aspect = 1 / self.aspect if rotated else self.aspect
        size = round(width * max(aspect, 1)), round(height * max(1 / aspect, 1))
        return resized(image, size)


def raster(path: Path) -> Raster:
    """Return how the pixels of a video are laid out; without PyAV none counts as interlaced."""
    with _opened(path) as video:
        above, below = video.get(cv2.CAP_PROP_SAR_NUM), video.get(cv2.CAP_PROP_SAR_DEN)
    aspect = above / below if above > 0 and below > 0 else 1.0
    known = MAX_ASPECT > aspect > 1 / MAX_ASPECT and abs(aspect - 1) > ASPECT_TOLERANCE
    return Raster(aspect if known else 1.0, _is_interlaced(path))


def _is_interlaced(path: Path) -> bool:
    av = _pyav()
    if av is None:
        return False
    try:
        with av.open(str(path)) as container:
            return any(frame.interlaced_frame for frame in islice(container.decode(video=0), 1))
    except (av.error.FFmpegError, IndexError, ValueError, OSError):
        return False


def decoded(path: Path, space: RgbSpace | None, layout: Raster) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index and the image (BGR, upright, sRGB, square pixels) of every frame.

    Args:
        path: Video.
        space: Its colour space (see `color_space`); None for sRGB.
        layout: That of its pixels (see `raster`).

    Raises:
        InputError: There is no frame that can be decoded.
    """
    av = _pyav()
    found = 0
    # OpenCV 5.0 gives frames of interlaced videos that were never written to.
    if space is None and not layout.interlaced:
        for image, rotated in _by_opencv(path):
            yield found, layout.square(image, rotated)
            found += 1
    if found == 0 and av is not None:
        for image, rotated in _by_pyav(av, path, space is not None):
            colors = image if space is None else srgb_from(space, image)[..., ::-1]
            yield found, layout.square(colors, rotated)
            found += 1
    if found == 0:
        more = "" if av else "; or pip install 'reconsplat[video]', which reads more kinds"
        raise InputError(
            f"cannot read {path}: it cannot be decoded as a video; "
            f"export it again as .mp4 (H.264){more}"
        )


def color_space(path: Path) -> RgbSpace | None:
    """Return the colour space of a video that `decoded` has to convert; None for sRGB and BT.709.

    A warning says what is converted, or that it cannot be.
    """
    space = _declared_space(path)
    if space is None:
        return None
    if _pyav() is None:
        warn(
            f"the colours of {path} are {space.name}, which are converted to sRGB only roughly "
            "without PyAV; pip install 'reconsplat[video]'"
        )
        return None
    warn(f"the colours of {path} are converted from {space.name} to sRGB")
    return space


def _declared_space(path: Path) -> RgbSpace | None:
    av = _pyav()
    if av is None:
        primaries, transfer = _mp4_colors(path)
    else:
        try:
            with av.open(str(path)) as container:
                context = container.streams.best("video").codec_context
                primaries, transfer = int(context.color_primaries), int(context.color_trc)
        except (av.error.FFmpegError, AttributeError, ValueError, OSError):
            return None
    return space_by_codes(primaries, transfer)


def is_panorama(path: Path) -> bool:
    """Return whether an .mp4 or .mov says that its frames are panoramas (Spherical Video RFC)."""
    header = _mp4_header(path)
    return b"sv3d" in header or b"Spherical>true" in header


def _mp4_colors(path: Path) -> tuple[int, int]:
    """Return primaries and transfer characteristics of an .mp4 or .mov (ISO 23001-8), 0 if unknown.

    They are in a box `colr` inside of the box `moov`.
    """
    content = _mp4_header(path)
    for kind in (b"colrnclx", b"colrnclc"):
        at = content.find(kind)
        if 0 <= at <= len(content) - 12:
            numbers = content[at + 8 : at + 12]
            return int.from_bytes(numbers[:2], "big"), int.from_bytes(numbers[2:], "big")
    return 0, 0


def _mp4_header(path: Path) -> bytes:
    """Return the box `moov` of an .mp4 or .mov; empty if there is none."""
    end = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while start + 16 <= end:
            file.seek(start)
            head = file.read(16)
            size, name = int.from_bytes(head[:4], "big"), head[4:8]
            if size == 1:
                size = int.from_bytes(head[8:], "big")
            if name == b"moov":
                return file.read(min(size, MAX_HEADER_BYTES))
            if size < 8:
                break
            start += size
    return b""


def has_pyav() -> bool:
    """Return whether PyAV is installed."""
    return _pyav() is not None


def _pyav() -> Any:
    """Return the module of PyAV; None if it is not installed."""
    try:
        import av
    except ImportError:
        return None
    return av


def _by_pyav(av: Any, path: Path, deep: bool) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield BGR codes of 8 bits, or RGB codes of 16 bits if `deep`; a damaged video ends early.

    With each frame comes whether it was rotated by a quarter.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                return
            for frame in container.decode(stream):
                image = frame.to_ndarray(format="rgb48le" if deep else "bgr24")
                # Counterclockwise, in degrees.
                quarters = round(frame.rotation / 90)
                yield np.ascontiguousarray(np.rot90(image, quarters)), quarters % 2 == 1
    except (av.error.FFmpegError, ValueError, OSError):
        return


def _by_opencv(path: Path) -> Iterator[tuple[np.ndarray, bool]]:
    with _opened(path) as video:
        rotated = round(video.get(cv2.CAP_PROP_ORIENTATION_META) / 90) % 2 == 1
        while video.isOpened():
            found, image = video.read()
            if not found:
                return
            yield image, rotated


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    # OpenCV and the decoder would print their own messages.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        yield video
    finally:
        video.release()
