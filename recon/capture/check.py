"""What is likely to go wrong with photos: blur, exposure, too little in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from recon.capture.images import read_image, resized, scaled_size
from recon.capture.types import Frame
from recon.types import StageProgress

# Of more photos than this only as many, one after the other from the first, are looked at.
MAX_LOOKS = 40
LONG_SIDE = 800
FEATURES = 1500
# A match must be so much nearer than the next best (Lowe 2004, section 7.1).
RATIO = 0.8
# Matches that agree with one motion, for two photos to show the same.
MIN_SHARED = 16
# Sharpness against the median, brightness against the median, that are worth a word.
BLURRED, DARK, BRIGHT = 0.2, 0.4, 2.5


@dataclass(frozen=True)
class Check:
    """Findings on the photos that were looked at."""

    looked_at: int
    sharing: Bool[np.ndarray, "v v"]
    """Whether two photos show enough of the same."""
    warnings: tuple[str, ...]

    @property
    def groups(self) -> int:
        """Sets of photos that have nothing in common with each other."""
        return len(set(_labels(self.sharing)))

    @property
    def partners(self) -> int:
        """Photos that half of all photos share enough with, at least."""
        return int(np.median(self.sharing.sum(1))) if self.looked_at else 0


def check_photos(frames: Sequence[Frame], report: StageProgress) -> Check:
    """Look at the photos; a guess from small pictures, for advice only."""
    frames = frames[:MAX_LOOKS]
    greys, bright, features = [], [], []
    for number, frame in enumerate(frames):
        report("looking at photos", number / len(frames))
        grey, brightness = _small_grey(frame)
        greys.append(grey)
        bright.append(brightness)
        features.append(_features(greys[-1]))
    sharing = np.zeros((len(frames), len(frames)), bool)
    for a, b in combinations(range(len(frames)), 2):
        sharing[a, b] = sharing[b, a] = _shared(features[a], features[b]) >= MIN_SHARED
    names = [frame.name for frame in frames]
    warnings = (*_looks(names, greys, bright), *_lonely(names, sharing))
    return Check(len(frames), sharing, warnings)


def _small_grey(frame: Frame) -> tuple[np.ndarray, float]:
    """A small grey picture, and the mean brightness of what is not transparent."""
    colors, alpha = read_image(frame.image_path, apply_orientation=False)
    part = 1.0
    if alpha is not None:
        colors, part = colors * alpha[..., None], max(float(alpha.mean()), 1e-6)
    size = colors.shape[1::-1]
    small = resized(colors, scaled_size(size, LONG_SIDE / max(size)))
    grey = cv2.cvtColor((255 * small).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    return grey, float(grey.mean()) / part


def _features(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) and descriptors (n, 128); none for a picture without corners."""
    points, found = cv2.SIFT_create(FEATURES).detectAndCompute(grey, None)  # type: ignore[attr-defined]
    if found is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    return np.array([point.pt for point in points], np.float32), found


def _shared(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> int:
    """Matches that agree with one motion of the camera."""
    if min(len(first[0]), len(second[0])) < MIN_SHARED:
        return 0
    nearest: Any = cv2.BFMatcher().knnMatch(first[1], second[1], k=2)
    good = [best for best, next_best in nearest if best.distance < RATIO * next_best.distance]
    if len(good) < MIN_SHARED:
        return 0
    a = first[0][[match.queryIdx for match in good]]
    b = second[0][[match.trainIdx for match in good]]
    cv2.setRNGSeed(0)
    _, inside = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 1.5, 0.99, 2000)
    return 0 if inside is None else int(inside.sum())


def _looks(names: list[str], greys: list[np.ndarray], brightness: list[float]) -> list[str]:
    """Photos that differ from most; of two nobody knows which is wrong."""
    if len(names) < 3:
        return []
    sharp = np.array([cv2.Laplacian(grey, cv2.CV_32F).var() for grey in greys])
    bright = np.array(brightness)
    sharp, bright = (x / max(float(np.median(x)), 1e-6) for x in (sharp, bright))
    found = []
    for name, sharper, brighter in zip(names, sharp, bright, strict=True):
        if sharper < BLURRED:
            found.append(f"{name} is blurred; leave it out or take it again")
        if not DARK <= brighter <= BRIGHT:
            found.append(
                f"{name} is {brighter:.1f} times as bright as most; fix the exposure for all"
            )
    return found


def _lonely(names: list[str], sharing: Bool[np.ndarray, "v v"]) -> list[str]:
    """Photos that cannot be connected with the largest group."""
    labels = _labels(sharing)
    if len(names) < 2 or len(set(labels)) == 1:
        return []
    largest = max(set(labels), key=labels.count)
    return [
        f"{name} seems to share too little with most photos; take some between them"
        for name, label in zip(names, labels, strict=True)
        if label != largest
    ]


def _labels(sharing: Bool[np.ndarray, "v v"]) -> list[int]:
    """Of each photo the first one that it is connected with, over any number of others."""
    labels = list(range(len(sharing)))
    for a, b in zip(*np.nonzero(sharing), strict=True):
        old, new = max(labels[a], labels[b]), min(labels[a], labels[b])
        labels = [new if label == old else label for label in labels]
    return labels
