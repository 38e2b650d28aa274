"""Whether photos agree with the cameras that they come with, by matches of a few pairs.

Exporters confuse the axes of cameras, and camera-to-world with world-to-camera. Such cameras are
valid, and only the photos show that they are wrong.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image

from recon.capture.check import matched_points, sift_features
from recon.capture.images import (
    TRANSPOSITIONS,
    UnreadablePhoto,
    decoding,
    exif_of,
    open_image,
    orientation_of,
)
from recon.capture.sample_values import grey_of
from recon.capture.types import Capture, Frame, FrameCamera
from recon.capture.undistort import straight_rays
from recon.errors import warn
from recon.formats.y_up import OPENGL_FLIP
from render.cameras import camera_centers

LONG_SIDE_PX = 512
# Photos that are matched with two others each, one of them this fraction of the capture further on.
NUM_STARTS, STEP = 3, 1 / 12
# Smallest distance between two photos of a pair, relative to the median one.
MIN_DISTANCE = 1e-3
# Matches that a pair needs, and the median angle between their rays as the cameras see them.
MIN_MATCHES, MIN_MOTION_RAD = 30, 0.008
# Angle between a ray and an epipolar plane from which on a match contradicts the cameras, and of
# parallax below which its depth says nothing: in proportion to the median angle, and at most that
# of a phone's poses.
TOLERANCE, MAX_TOLERANCE_RAD = 0.25, 0.02
# Fractions of agreeing matches that cameras have that are right, wrong, or right if corrected.
RIGHT, WRONG, CORRECTED = 0.5, 0.25, 0.7

Pose = Float[np.ndarray, "4 4"]
Rays = Float[np.ndarray, "n 3"]
# Cameras of two photos, and the unit rays [n 3] of their matches in either.
Pair = tuple[FrameCamera, FrameCamera, np.ndarray, np.ndarray]
# What exporters confuse, and the right camera from world for a wrong one, but for the world frame.
CORRECTIONS: dict[str, Callable[[Pose], Pose]] = {
    "with the y and z axes of the cameras negated (OpenGL or OpenCV)": (
        lambda v: OPENGL_FLIP[:, None] * v
    ),
    "with camera-to-world and world-to-camera exchanged": lambda v: np.linalg.inv(v),
    "with camera-to-world and world-to-camera exchanged, and the y and z axes negated": (
        lambda v: OPENGL_FLIP[:, None] * np.linalg.inv(v)
    ),
    "with the translations as positions of the cameras": lambda v: _at(v, -v[:3, :3] @ v[:3, 3]),
}  # fmt: skip


def warn_of_contradictions(capture: Capture) -> None:
    """Warn if most matches between photos contradict the cameras of the capture.

    The first pair whose matches agree with the cameras ends the check. Pairs with few matches or
    little motion say nothing.
    """
    pairs: list[Pair] = []
    for first, second in _pairs(capture.frames):
        pair = _matched(first, second)
        if pair is None:
            continue
        if _fraction([pair], np.asarray) >= RIGHT:
            return
        pairs.append(pair)
    given = _fraction(pairs, np.asarray)
    if not pairs or given >= WRONG:
        return
    found = {text: _fraction(pairs, correct) for text, correct in CORRECTIONS.items()}
    best = max(found, key=lambda text: found[text])
    more = ""
    if found[best] >= CORRECTED:
        more = f", and {found[best]:.0%} {best}; correct the export"
    warn(
        f"the cameras of {capture.title} contradict its photos: {given:.0%} of "
        f"{sum(len(a) for _, _, a, _ in pairs)} matches agree with them{more}; or pass "
        "source='solve' to solve them anew",
        fields=["source"],
    )


def _at(viewmat: Pose, translation: Float[np.ndarray, "3"]) -> Pose:
    moved = viewmat.copy()
    moved[:3, 3] = translation
    return moved


def _pairs(frames: tuple[Frame, ...]) -> Iterator[tuple[Frame, Frame]]:
    """Yield pairs of photos that probably overlap: near in the order, or by their cameras."""
    if len(frames) < 2 or any(frame.camera is None for frame in frames):
        return
    centers = camera_centers(torch.stack([f.camera.viewmat for f in frames if f.camera])).numpy()
    last = len(frames) - 1
    step = max(1, round(STEP * len(frames)))
    for start in np.unique(np.linspace(0, last - step, NUM_STARTS).round().astype(int)).tolist():
        distance = np.linalg.norm(centers - centers[start], axis=1)
        # Between photos from one position there is no epipolar geometry.
        distance[distance < MIN_DISTANCE * np.median(distance)] = np.inf
        distance[start] = np.inf
        for other in dict.fromkeys((start + step, int(distance.argmin()))):
            if np.isfinite(distance[other]):
                yield frames[start], frames[other]


def _fraction(pairs: list[Pair], correct: Callable[[Pose], Pose]) -> float:
    """Return the fraction of matches that agree with corrected cameras."""
    agreeing = [
        agree(a, b, correct(second.viewmat.numpy()) @ np.linalg.inv(correct(first.viewmat.numpy())))
        for first, second, a, b in pairs
    ]
    return float(np.concatenate(agreeing).mean()) if agreeing else 1.0


def agree(a: Rays, b: Rays, b_from_a: Pose) -> Bool[np.ndarray, " n"]:
    """Return which matches fit the epipolar geometry of two cameras, with points in front of both.

    Args:
        a: Unit rays of the matches in the first camera.
        b: Unit rays of the same matches in the second camera.
        b_from_a: Second camera from the first.
    """
    tolerance = np.sin(min(TOLERANCE * motion(a, b), MAX_TOLERANCE_RAD))
    rotated, offset = a @ b_from_a[:3, :3].T, b_from_a[:3, 3]
    normal = np.cross(rotated, offset)
    length = np.linalg.norm(normal, axis=1)
    off_plane = np.abs((normal * b).sum(1)) > tolerance * length
    across = np.cross(rotated, b)
    # From depth_b * b = depth_a * rotated + offset, multiplied by either ray.
    depth_a = (np.cross(b, offset) * across).sum(1)
    depth_b = (normal * across).sum(1)
    parallel = np.linalg.norm(across, axis=1) < tolerance
    far = parallel & ((rotated * b).sum(1) > 0)
    return np.asarray(~off_plane & (far | (~parallel & (depth_a > 0) & (depth_b > 0))))


def motion(a: Rays, b: Rays) -> float:
    """Return the median angle between the rays of matches in the frames of their cameras (rad)."""
    return float(np.median(np.arccos(np.clip((a * b).sum(1), -1, 1))))


def _matched(first: Frame, second: Frame) -> Pair | None:
    """Return two cameras with the rays of their photos' matches; None if these say nothing."""
    try:
        greys = [_grey(frame) for frame in (first, second)]
    except UnreadablePhoto:
        return None
    points = matched_points(*(sift_features(grey) for grey in greys))
    if len(points[0]) < MIN_MATCHES or first.camera is None or second.camera is None:
        return None
    a = _rays(points[0], greys[0], first.camera)
    b = _rays(points[1], greys[1], second.camera)
    return (first.camera, second.camera, a, b) if motion(a, b) >= MIN_MOTION_RAD else None


def _rays(points: Float[np.ndarray, "n 2"], grey: np.ndarray, camera: FrameCamera) -> Rays:
    """Return unit rays in the camera's frame of points in a smaller copy of its photo."""
    scale = np.array([camera.width, camera.height]) / grey.shape[1::-1]
    rays = straight_rays(camera, (points.astype(np.float64) + 0.5) * scale)
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _grey(frame: Frame) -> np.ndarray:
    """Return a small grey copy of a photo, rotated as its camera is."""
    size = (LONG_SIDE_PX, LONG_SIDE_PX)
    with open_image(frame.image_path) as image, decoding(frame.image_path):
        # JPEG files are decoded at a fraction of their size.
        image.draft("L", (2 * LONG_SIDE_PX, 2 * LONG_SIDE_PX))
        rotation = TRANSPOSITIONS.get(orientation_of(exif_of(image), image))
        small = grey_of(frame.image_path, image)
        small.thumbnail(size, Image.Resampling.BOX)
        return np.asarray(small.transpose(rotation) if frame.oriented and rotation else small)
