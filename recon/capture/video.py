"""Video: the sharp frames of it, evenly spread over its motion, as photos."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int

from recon.capture.cache import cache_folder, content_key
from recon.capture.images import resized, scaled_size
from recon.capture.types import Capture, Frame
from recon.errors import ConfigError, InputError
from recon.files import atomic_output

EXTENSIONS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
# Long sides of the pictures that sharpness and motion are measured on (px).
SHARP_PX, FLOW_PX = 480, 96
# Frames that are looked at, at most: of longer videos every second, third, ...
MAX_LOOKS = 900
# What a frame's time counts for, in parts of the average motion: a camera that rests gives
# photos, too, but few.
TIME_SHARE = 0.1
JPEG_QUALITY = 95


def is_video(path: Path) -> bool:
    """Whether the name is one of a video that recon reads."""
    return path.suffix.lower() in EXTENSIONS


def read_video(path: Path, count: int) -> Capture:
    """At most `count` frames of a video as a capture of photos, kept in the cache.

    InputError when the file holds no video that can be decoded, or less than two frames.
    """
    if count < 2:
        raise ConfigError(f"frames must be at least 2, got {count}", "frames")
    folder = cache_folder() / "frames" / content_key([(path.name, path)], count)
    if not folder.is_dir():
        chosen = set(choose_frames(*_measured(path), count).tolist())
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(folder) as temporary:
            temporary.mkdir()
            for number, picture in _pictures(path):
                if number in chosen:
                    file = temporary / f"frame_{number:06d}.jpg"
                    cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    frames = tuple(Frame(file.name, file) for file in sorted(folder.glob("*.jpg")))
    return Capture(folder, "video", frames, origin=path)


def choose_frames(
    numbers: Int[np.ndarray, "f"],
    sharpness: Float[np.ndarray, "f"],
    motion: Float[np.ndarray, "f"],
    count: int,
) -> Int[np.ndarray, "c"]:
    """The sharpest frame of each of `count` pieces of equal motion, by number.

    `motion` is how far the picture moved since the frame before.
    """
    if len(numbers) <= count:
        return numbers
    steps = motion + TIME_SHARE * motion.mean() + 1e-9
    way = np.cumsum(steps)
    piece = ((way - 0.5 * steps) / way[-1] * count).astype(int)
    best = [np.flatnonzero(piece == p) for p in np.unique(piece)]
    return np.array([numbers[inside[sharpness[inside].argmax()]] for inside in best])


def _measured(
    path: Path,
) -> tuple[Int[np.ndarray, "f"], Float[np.ndarray, "f"], Float[np.ndarray, "f"]]:
    """Number, sharpness and motion of the frames that are looked at."""
    with _opened(path) as video:
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    stride = max(1, -(-total // MAX_LOOKS))
    rows, before = [], None
    for number, picture in _pictures(path):
        if number % stride:
            continue
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        sharp = float(cv2.Laplacian(_shrunk(grey, SHARP_PX), cv2.CV_32F).var())
        small, moved = _shrunk(grey, FLOW_PX), 0.0
        if before is not None:
            flow = cv2.calcOpticalFlowFarneback(before, small, None, 0.5, 3, 9, 2, 5, 1.1, 0)  # type: ignore[call-overload]
            moved = float(np.median(np.linalg.norm(flow, axis=-1)))
        before = small
        rows.append((number, sharp, moved))
    if len(rows) < 2:
        raise InputError(
            f"cannot read {path}: expected a video of at least 2 frames, found {len(rows)}; "
            "export it again as .mp4 (H.264)"
        )
    numbers, sharpness, motion = map(np.array, zip(*rows, strict=True))
    return numbers, sharpness, motion


def _shrunk(grey: np.ndarray, long_side: int) -> np.ndarray:
    return resized(grey, scaled_size(grey.shape[1::-1], long_side / max(grey.shape)))


def _pictures(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Number and picture (BGR, upright) of every frame."""
    with _opened(path) as video:
        number = 0
        while True:
            found, picture = video.read()
            if not found:
                return
            yield number, picture
            number += 1


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    # OpenCV and the decoder would print their own complaints.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if path.stat().st_size == 0 or not video.isOpened():
            raise InputError(
                f"cannot read {path}: it holds no video that can be decoded; "
                "export it again as .mp4 (H.264)"
            )
        yield video
    finally:
        video.release()
