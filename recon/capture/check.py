"""Checks of photos for common problems: blur, exposure, too little overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from recon.capture.images import read_image, resized, scaled_size
from recon.capture.sfm.duplicates import distinct_photos
from recon.capture.types import Frame
from recon.errors import listed
from recon.types import StageProgress

# All pairs of photos are compared, which takes about a minute for this many: only the first ones of
# a larger capture are checked.
MAX_CHECKED_PHOTOS = 40
LONG_SIDE_PX = 800
MAX_FEATURES = 1500
# Largest distance of a match over that of the second best match (Lowe 2004, section 7.1).
MAX_DISTANCE_RATIO = 0.8
# Matches that must agree on a fundamental matrix for two photos to count as overlapping.
MIN_INLIERS = 16
# Features below which a photo has no detail: clouds have dozens, blurred photos of things hundreds.
MIN_FEATURES = 20
# Thresholds of warnings: sharpness and brightness relative to the median of the photos.
MIN_SHARPNESS, MIN_BRIGHTNESS, MAX_BRIGHTNESS = 0.2, 0.4, 2.5


@dataclass(frozen=True)
class PhotoCheck:
    """Results of the checks."""

    num_checked: int
    """Number of photos that were checked."""
    overlap: Bool[np.ndarray, "v v"]
    """Whether two photos overlap; False on the diagonal."""
    warnings: tuple[str, ...]
    """One line of advice each."""

    @property
    def groups(self) -> int:
        """Number of groups of photos without overlap between the groups."""
        return len(set(_connected_components(self.overlap)))

    @property
    def median_overlaps(self) -> int:
        """Median number of overlapping photos per photo."""
        return int(np.median(self.overlap.sum(1))) if self.num_checked else 0


def check_photos(frames: Sequence[Frame], report: StageProgress) -> PhotoCheck:
    """Check photos for copies, detail, blur, exposure and overlap, for advice only.

    Downsampled copies are checked, and of photos that are copies of each other only the first.
    """
    frames = frames[:MAX_CHECKED_PHOTOS]
    distinct = set(distinct_photos([frame.image_path for frame in frames]))
    copies = [frame.name for i, frame in enumerate(frames) if i not in distinct]
    frames = [frame for i, frame in enumerate(frames) if i in distinct]
    greys, brightness, features = [], [], []
    for index, frame in enumerate(frames):
        report("checking photos", index / len(frames))
        grey, mean = _small_grey(frame)
        greys.append(grey)
        brightness.append(mean)
        features.append(sift_features(grey))
    overlap = np.zeros((len(frames), len(frames)), bool)
    for a, b in combinations(range(len(frames)), 2):
        overlap[a, b] = overlap[b, a] = _num_inliers(features[a], features[b]) >= MIN_INLIERS
    names = [frame.name for frame in frames]
    bare = [n for n, (points, _) in zip(names, features, strict=True) if len(points) < MIN_FEATURES]
    warnings = (
        *_content_warnings(copies, bare),
        *_exposure_warnings(names, greys, brightness),
        *_overlap_warnings(names, overlap),
    )
    return PhotoCheck(len(frames), overlap, warnings)


def _content_warnings(copies: list[str], bare: list[str]) -> list[str]:
    """Warn of photos that add nothing."""
    warnings = []
    if copies:
        warnings.append(f"{listed(copies)}: the same image as another photo; remove copies")
    if bare:
        warnings.append(
            f"{listed(bare)}: hardly any detail (sky, a bare wall, water, or out of focus), which "
            "neither cameras nor depth can be found from; take photos of something with texture"
        )
    return warnings


def _small_grey(frame: Frame) -> tuple[np.ndarray, float]:
    """Return a downsampled grey image, and the mean brightness of its opaque pixels."""
    colors, alpha = read_image(frame.image_path, apply_orientation=False)
    coverage = 1.0
    if alpha is not None:
        colors, coverage = colors * alpha[..., None], max(float(alpha.mean()), 1e-6)
    size = colors.shape[1::-1]
    small = resized(colors, scaled_size(size, LONG_SIDE_PX / max(size)))
    grey = cv2.cvtColor((255 * small).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    return grey, float(grey.mean()) / coverage


def sift_features(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints [n 2] and descriptors [n 128]."""
    points, found = cv2.SIFT_create(MAX_FEATURES).detectAndCompute(grey, None)  # type: ignore[attr-defined]
    if found is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    return np.array([point.pt for point in points], np.float32), found


def _num_inliers(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> int:
    """Count the matches that agree with one fundamental matrix."""
    return len(matched_points(first, second)[0])


def matched_points(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points [n 2] of two photos whose matches agree with one fundamental matrix.

    Args:
        first: Keypoints and descriptors of a photo (see `sift_features`).
        second: Those of another one.
    """
    nothing = np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    if min(len(first[0]), len(second[0])) < MIN_INLIERS:
        return nothing
    nearest: Any = cv2.BFMatcher().knnMatch(first[1], second[1], k=2)
    good = [
        best
        for best, next_best in nearest
        if best.distance < MAX_DISTANCE_RATIO * next_best.distance
    ]
    if len(good) < MIN_INLIERS:
        return nothing
    a = first[0][[match.queryIdx for match in good]]
    b = second[0][[match.trainIdx for match in good]]
    cv2.setRNGSeed(0)
    try:
        _, inliers = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 1.5, 0.99, 2000)
    except cv2.error:
        # The same photo twice: any matrix fits, and OpenCV finds none.
        return a, b
    if inliers is None:
        return nothing
    return a[inliers.ravel() > 0], b[inliers.ravel() > 0]


def _exposure_warnings(
    names: list[str], greys: list[np.ndarray], brightness: list[float]
) -> list[str]:
    """Warn of photos that are blurred or exposed unlike the median photo."""
    # The median of two photos does not tell which of them is wrong.
    if len(names) < 3:
        return []
    sharpness = _relative_to_median([_sharpness(grey) for grey in greys])
    warnings = []
    for name, sharp, bright in zip(names, sharpness, _relative_to_median(brightness), strict=True):
        if sharp < MIN_SHARPNESS:
            warnings.append(f"{name} is blurred; remove it or take it again")
        if not MIN_BRIGHTNESS <= bright <= MAX_BRIGHTNESS:
            warnings.append(
                f"{name} is {bright:.1f} times as bright as the median photo; use the same "
                "exposure for all photos"
            )
    return warnings


def _sharpness(grey: np.ndarray) -> float:
    """Return the variance of the Laplacian."""
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _relative_to_median(values: Sequence[float]) -> np.ndarray:
    return np.array(values) / max(float(np.median(values)), 1e-6)


def _overlap_warnings(names: list[str], overlap: Bool[np.ndarray, "v v"]) -> list[str]:
    """Warn of photos that are not connected to the largest group by overlap."""
    labels = _connected_components(overlap)
    if len(names) < 2 or len(set(labels)) == 1:
        return []
    largest = max(set(labels), key=labels.count)
    return [
        f"{name} overlaps too little with most photos; take photos in between"
        for name, label in zip(names, labels, strict=True)
        if label != largest
    ]


def _connected_components(overlap: Bool[np.ndarray, "v v"]) -> list[int]:
    """Return for each photo the first photo of its connected component."""
    labels = list(range(len(overlap)))
    for a, b in zip(*np.nonzero(overlap), strict=True):
        old, new = max(labels[a], labels[b]), min(labels[a], labels[b])
        labels = [new if label == old else label for label in labels]
    return labels
