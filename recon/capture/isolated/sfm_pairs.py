"""Choose the pairs of images to match, and measure how long a pair takes.

Usage: sfm_pairs.py JOB.json

Few images are matched in all pairs. Each of many is matched with the images that look most alike,
by VLAD descriptors (Jégou et al. 2010) of their SIFT features, and with its neighbours in the order
of names if that order is one of space, as in a video. Images of a spot that is visited again look
alike, so that loops are closed.

This script runs in a separate process, because importing torch before pycolmap crashes
(colmap/colmap#3477), and imports nothing from recon.
"""

import itertools
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

Pairs = list[tuple[int, int]]

# Up to this many images, all pairs are matched.
MAX_EXHAUSTIVE = 80
# Images with fewer features cannot be matched, such as those of blank walls or the sky.
MIN_FEATURES = 30
# Number of most similar images that each of many images is matched with.
NUM_SIMILAR = 20
# Distances in the order of names of further images that an image is matched with.
ORDER_OFFSETS = (1, 2, 3, 4, 6, 8, 12, 16)
# The order of names is one of space if half of the images have the next one among this fraction
# of the images most similar to them.
ORDERED_RANK_FRACTION = 0.1
# Number of visual words, of descriptors of an image that are assigned to them, and of descriptors
# that the words are computed from.
NUM_WORDS, MAX_DESCRIPTORS, MAX_TRAINING_DESCRIPTORS = 64, 1000, 30_000
# The time is measured on this fraction of the pairs, at most MAX_TIMED_PAIRS. They follow each
# other and share images, like those of the whole list.
TIMED_FRACTION, MAX_TIMED_PAIRS = 0.1, 40


def main(job: dict[str, Any]) -> None:
    """Write the list of pairs, their number, and the time that a pair takes."""
    names, counts, descriptors = _read_features(job)
    detailed = sum(count >= MIN_FEATURES for count in counts)
    if detailed < 2:
        Path(job["plan"]).write_text(json.dumps({"num_detailed": detailed}), encoding="utf-8")
        return
    if len(names) <= MAX_EXHAUSTIVE:
        pairs = list(itertools.combinations(range(len(names)), 2))
    else:
        pairs = select_pairs(vlad_similarity(descriptors, job["seed"]))
    lines = [f"{names[a]} {names[b]}" for a, b in pairs]
    timed = min(math.ceil(TIMED_FRACTION * len(lines)), MAX_TIMED_PAIRS)
    seconds, slowdown = _seconds_per_pair(job, lines[:timed])
    Path(job["pairs"]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    plan = {
        "num_detailed": detailed,
        "num_pairs": len(lines),
        "seconds": seconds * len(lines),
        "slowdown": slowdown,
    }
    Path(job["plan"]).write_text(json.dumps(plan), encoding="utf-8")


def select_pairs(similarity: Float[np.ndarray, "v v"]) -> Pairs:
    """Select the pairs of images to match, in order.

    Args:
        similarity: Of every pair of images; larger is more alike. Images are in the order of names.
    """
    count = len(similarity)
    ranked = np.argsort(-(similarity - 1e6 * np.eye(count)), axis=1, kind="stable")[:, :-1]
    pairs = {(a, int(b)) for a in range(count) for b in ranked[a, :NUM_SIMILAR]}
    if is_ordered(ranked):
        pairs |= {(a, a + step) for step in ORDER_OFFSETS for a in range(count - step)}
    return sorted({(min(pair), max(pair)) for pair in pairs})


def is_ordered(ranked: np.ndarray) -> bool:
    """Return whether images that follow each other are alike.

    Args:
        ranked: For each image all others, the most similar first [v v-1].
    """
    following = np.arange(1, len(ranked))
    ranks = (ranked[:-1] == following[:, None]).argmax(1)
    return float(np.median(ranks)) < ORDERED_RANK_FRACTION * len(ranked)


def vlad_similarity(descriptors: list[np.ndarray], seed: int) -> Float[np.ndarray, "v v"]:
    """Return the similarity of all pairs of images, by VLAD over RootSIFT descriptors.

    Residuals are normalised for every visual word (Arandjelović and Zisserman 2013), so that
    repeated structures do not dominate.

    Args:
        descriptors: SIFT descriptors of each image [n 128].
        seed: Seed of the visual words.
    """
    roots = [_root_sift(rows[:MAX_DESCRIPTORS]) for rows in descriptors]
    samples = np.concatenate(roots)
    samples = samples[:: -(-len(samples) // MAX_TRAINING_DESCRIPTORS) or 1]
    if len(samples) < NUM_WORDS:
        return np.zeros((len(roots), len(roots)), np.float32)
    cv2.setRNGSeed(seed)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-4)
    flags = cv2.KMEANS_PP_CENTERS
    _, _, words = cv2.kmeans(samples, NUM_WORDS, None, criteria, 1, flags)  # type: ignore[call-overload]
    vectors = np.stack([_vlad(rows, words) for rows in roots])
    return np.asarray(vectors @ vectors.T)


def _root_sift(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return np.asarray(np.sqrt(rows / np.maximum(rows.sum(1, keepdims=True), 1e-6)))


def _vlad(rows: np.ndarray, words: np.ndarray) -> np.ndarray:
    nearest = (0.5 * (words**2).sum(1) - rows @ words.T).argmin(1)
    residuals = np.zeros_like(words)
    np.add.at(residuals, nearest, rows - words[nearest])
    residuals /= np.maximum(np.linalg.norm(residuals, axis=1, keepdims=True), 1e-6)
    return np.asarray(residuals.ravel() / max(float(np.linalg.norm(residuals)), 1e-6))


def _read_features(job: dict[str, Any]) -> tuple[list[str], list[int], list[np.ndarray]]:
    """Return the names of the images, their numbers of features, and the descriptors of many."""
    import pycolmap

    with pycolmap.Database.open(job["database"]) as database:
        images = sorted(database.read_all_images(), key=lambda image: image.name)
        names = [image.name for image in images]
        counts = [database.num_keypoints_for_image(image.image_id) for image in images]
        if len(names) <= MAX_EXHAUSTIVE:
            return names, counts, []
        found = [np.asarray(database.read_descriptors(i.image_id).data) for i in images]
        return names, counts, found


def _seconds_per_pair(job: dict[str, Any], lines: list[str]) -> tuple[float, float]:
    """Match and verify some pairs, which is not done again later.

    Returns:
        Seconds for a pair, and how many times longer than the processor was used (at least 1).
    """
    # This file's folder is the first one on the path of a script.
    from sfm_matching import match

    Path(job["pairs"]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    start, used = time.perf_counter(), time.process_time()
    match(job)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    return seconds / len(lines), max(seconds / max(used, 1e-3), 1.0)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
