"""Videos: sharp frames, evenly spaced over the motion of the camera, as photos."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int

from recon.capture.cache import cache_folder, content_key
from recon.capture.color import RgbSpace
from recon.capture.images import resized, scaled_size, write_pixels
from recon.capture.photo_files import looks_like_panorama
from recon.capture.types import Capture, Frame
from recon.capture.video_frames import (
    Raster,
    color_space,
    count_frames,
    decoded,
    has_pyav,
    is_panorama,
    raster,
)
from recon.errors import ConfigError, InputError, warn
from recon.files import atomic_output
from recon.stand_ins import check_stand_in

# Long sides of the images that sharpness and optical flow are measured on (px).
SHARPNESS_PX, FLOW_PX = 480, 96
# At most this many frames are analysed: of longer videos every second, third, ... frame.
MAX_ANALYSED_FRAMES = 900
# Motion that every frame counts for in addition, relative to the mean motion, so that a resting
# camera still gives some photos.
MIN_RELATIVE_MOTION = 0.1
# By default, a photo for this much motion relative to the long side, within these limits.
MOTION_PER_PHOTO, MIN_PHOTOS, MAX_PHOTOS = 0.06, 40, 240
JPEG_QUALITY = 95
PANORAMA = "panoramas, whose cameras cannot be solved; export a perspective video"
# A video is cut short if less than this fraction of the frames that it should have can be decoded;
# the file in the cache that says so.
MIN_COMPLETE, NOTE = 0.9, "note.txt"


def read_video(path: Path, count: int | None) -> Capture:
    """Read at most `count` frames of a video as photos, which are written to the cache.

    By default, the number of photos grows with the motion of the camera (see `default_count`).

    Raises:
        InputError: The file cannot be decoded as a video, or has fewer than two frames.
    """
    if count is not None and count < 2:
        raise ConfigError(f"frames must be at least 2, got {count}", "frames")
    if not path.is_file() or path.stat().st_size == 0:
        reason = "the file is empty" if path.is_file() else "it is no file"
        raise InputError(
            f"cannot read {path}: it cannot be decoded as a video, {reason}; copy it again"
        )
    check_stand_in(path)
    if is_panorama(path):
        warn(f"the frames of {path} are {PANORAMA}")
    space, layout = color_space(path), raster(path)
    settings: tuple[object, ...] = count, space and space.name
    if layout != Raster():
        settings += (layout,)
        _tell_layout(path, layout)
    folder = cache_folder() / "frames" / content_key([(path.name, path)], *settings)
    if not folder.is_dir():
        _extract(path, space, layout, count, folder)
    if (note := folder / NOTE).is_file():
        found = note.read_text(encoding="utf-8")
        warn(f"{path} is cut short or damaged: {found} frames can be decoded and are used")
    frames = tuple(Frame(file.name, file) for file in sorted(folder.glob("*.jpg")))
    if not is_panorama(path) and looks_like_panorama(frames[0].image_path):
        warn(f"the frames of {path} are twice as wide as high, with sides that meet, as {PANORAMA}")
    return Capture(folder, "video", frames, origin=path)


def _tell_layout(path: Path, layout: Raster) -> None:
    if layout.aspect != 1:
        warn(
            f"the pixels of {path} are {layout.aspect:.3g} times as wide as high; its frames are "
            "resampled to square pixels"
        )
    if layout.interlaced:
        warn(f"{path} is interlaced; every second row of its frames is used")


def _extract(
    path: Path, space: RgbSpace | None, layout: Raster, count: int | None, folder: Path
) -> None:
    """Write the selected frames into a new folder."""
    expected = count_frames(path) or sum(1 for _ in decoded(path, None, Raster()))
    indices, sharpness, motion = _measure_frames(path, space, layout, expected)
    number = default_count(motion) if count is None else count
    selected = set(select_frames(indices, sharpness, motion, number).tolist())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        index = -1
        for index, image in decoded(path, space, layout):
            if index in selected:
                file = temporary / f"frame_{index:06d}.jpg"
                quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
                write_pixels(file, image, quality)
        if index + 1 < MIN_COMPLETE * expected:
            (temporary / NOTE).write_text(f"{index + 1} of {expected}", encoding="utf-8")


def default_count(motion: Float[np.ndarray, " f"]) -> int:
    """Return the number of photos to take from a video.

    Args:
        motion: Median optical flow of each frame from the one before, in pixels of images with a
            long side of FLOW_PX.
    """
    wanted = float(motion.sum()) / (MOTION_PER_PHOTO * FLOW_PX)
    return int(np.clip(round(wanted), MIN_PHOTOS, MAX_PHOTOS))


def select_frames(
    indices: Int[np.ndarray, " f"],
    sharpness: Float[np.ndarray, " f"],
    motion: Float[np.ndarray, " f"],
    count: int,
) -> Int[np.ndarray, " c"]:
    """Select the sharpest frame of each of `count` segments of equal motion.

    Args:
        indices: Indices of the frames in the video.
        sharpness: Variance of the Laplacian of each frame.
        motion: Median optical flow from the frame before.
        count: Number of segments, some of which may be empty.

    Returns:
        The indices of the selected frames.
    """
    if len(indices) <= count:
        return indices
    steps = motion + MIN_RELATIVE_MOTION * motion.mean() + 1e-9
    path = np.cumsum(steps)
    segment = ((path - 0.5 * steps) / path[-1] * count).astype(int)
    members = [np.flatnonzero(segment == s) for s in np.unique(segment)]
    return np.array([indices[inside[sharpness[inside].argmax()]] for inside in members])


def _measure_frames(
    path: Path, space: RgbSpace | None, layout: Raster, total: int
) -> tuple[Int[np.ndarray, " f"], Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Return the indices, sharpness and motion of the frames that are analysed."""
    stride = max(1, -(-total // MAX_ANALYSED_FRAMES))
    rows, previous, first, moves = [], None, None, False
    for index, image in decoded(path, space, layout):
        if index % stride:
            continue
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        first = grey if first is None else first
        moves |= not np.array_equal(grey, first)
        sharp = float(cv2.Laplacian(_shrunk(grey, SHARPNESS_PX), cv2.CV_32F).var())
        small, flow_px = _shrunk(grey, FLOW_PX), 0.0
        if previous is not None:
            flow = cv2.calcOpticalFlowFarneback(previous, small, None, 0.5, 3, 9, 2, 5, 1.1, 0)  # type: ignore[call-overload]
            flow_px = float(np.median(np.linalg.norm(flow, axis=-1)))
        previous = small
        rows.append((index, sharp, flow_px))
    if len(rows) < 2:
        raise InputError(
            f"cannot read {path}: expected a video of at least 2 frames, found {len(rows)}; "
            "export it again as .mp4 (H.264)"
        )
    if not moves and not has_pyav():
        raise InputError(
            f"cannot read {path}: all its frames are equal, as those of interlaced videos are "
            "without PyAV; pip install 'reconsplat[video]'"
        )
    indices, sharpness, motion = map(np.array, zip(*rows, strict=True))
    return indices, sharpness, motion


def _shrunk(grey: np.ndarray, long_side: int) -> np.ndarray:
    return resized(grey, scaled_size(grey.shape[1::-1], long_side / max(grey.shape)))
