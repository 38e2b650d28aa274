"""Copies among photos, which slow the solver down and add nothing."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from recon.capture.photo_files import THUMBNAIL_PX, thumbnail

# Largest root mean square difference of the thumbnails of copies, relative to their standard
# deviation. Copies at two thirds of the size and JPEG quality 50 differ by 0.02 to 0.06, frames of
# captures by 0.13 and more (docs/experiments/many-photos.md).
MAX_DIFFERENCE = 0.05


def distinct_photos(files: Sequence[Path]) -> list[int]:
    """Return the indices of the photos that are no copies of one before.

    Copies are files of the same contents, and photos that hardly differ at low resolution (resized,
    recompressed, or taken from a tripod).

    Raises:
        InputError: A file cannot be read.
    """
    seen: set[bytes] = set()
    kept: list[int] = []
    thumbnails = np.empty((len(files), THUMBNAIL_PX**2), np.float32)
    for index, file in enumerate(files):
        digest = hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b""
        if digest in seen:
            continue
        seen.add(digest)
        small = thumbnail(file)
        if _is_copy(small, thumbnails[: len(kept)]):
            continue
        thumbnails[len(kept)] = small
        kept.append(index)
    return kept


def _is_copy(small: Float[np.ndarray, " p"], others: Float[np.ndarray, "n p"]) -> bool:
    differences = np.sqrt(((others - small) ** 2).mean(1))
    return bool((differences <= MAX_DIFFERENCE * small.std()).any())
