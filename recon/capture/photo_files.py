"""Checks of photo files: unreadable ones are left out, and conversions are told."""

import functools
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from recon.capture.color import conversion_of
from recon.capture.exif import warn_of_focals
from recon.capture.images import (
    HEADER_BYTES,
    UnreadablePhoto,
    declared_space,
    decoding,
    developed,
    list_images,
    open_image,
)
from recon.capture.masks import without_masks
from recon.capture.sample_values import eight_bit, grey_of
from recon.capture.types import Capture
from recon.cores import allowed_cores
from recon.errors import InputError, LeftOutWarning, counted, listed, warn
from recon.photo_extensions import is_raw

# Size of the thumbnails of photos (px).
THUMBNAIL_PX = 48
# Formats that may hold several images, as pages or as an animation.
SEVERAL_IMAGES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
# Last bytes of a file (number of bytes, pattern) that show that nothing is cut off.
ENDINGS = {"JPEG": (1024, b"\xff\xd9"), "MPO": (1024, b"\xff\xd9"), "PNG": (64, b"IEND")}
# Parts of the names of images that are no photos, as nerfstudio and NeRF synthetic have them.
NOT_PHOTOS = ("depth", "normal", "mask", "alpha", "semantic")
# Metadata of panoramas, and what is told of those whose cameras are to be solved.
PANORAMA_MARK = re.compile(rb"ProjectionType\W{1,3}equirectangular")
PANORAMA_NOTE = (
    "the photo is a panorama (equirectangular), whose camera cannot be solved; split it into "
    "perspective photos, or give the cameras (camera_model EQUIRECTANGULAR)"
)
# Height of the copies that panoramas are recognised by (px).
PANORAMA_PX = 128
# Correlation of details of the first and the last column from which they are neighbours.
MIN_LIKENESS = 0.4
# Smallest photo that shows anything (px).
MIN_SIDE_PX = 4
MAX_THREADS = 4


@dataclass(frozen=True)
class _Finding:
    """What is known about a file."""

    problem: str = ""
    """Why it cannot be read; empty if it can."""
    notes: tuple[str, ...] = ()
    """What happens to its pixels, with `{largest}` for the largest value in all photos."""
    largest: float = 0.0
    """Largest value of its pixels, if a note needs it."""


def checked_photos(capture: Capture, decode: bool) -> Capture:
    """Return a capture without the photos that cannot be read, which a warning names.

    Warnings also say which colours are converted.

    Args:
        capture: The capture.
        decode: Whether all photos are decoded, to thumbnails that the solver needs anyway. If not,
            only the header and the end of a file are read, unless these do not show that the file
            is whole. Then warnings also name photos whose focal length in EXIF is not believed.

    Raises:
        InputError: None of the photos can be read.
    """
    threads = min(MAX_THREADS, allowed_cores())
    with ThreadPoolExecutor(threads) as pool:
        paths = [frame.image_path for frame in capture.frames]
        findings = list(pool.map(lambda path: _inspect(path, decode), paths))
    problems, notes = defaultdict(list), defaultdict(list)
    for frame, finding in zip(capture.frames, findings, strict=True):
        if finding.problem:
            problems[finding.problem].append(frame.name)
        for note in finding.notes:
            notes[note].append(frame.name)
    kept = [f for f, finding in zip(capture.frames, findings, strict=True) if not finding.problem]
    lost = tuple(name for names in problems.values() for name in names)
    total = len(capture.frames)
    if total and not kept:
        reason, names = next(iter(problems.items()))
        raise InputError(f"cannot read any photo of {capture.title}: {listed(names)}: {reason}")
    for reason, names in problems.items():
        count = f"{len(names)} of {total} photos"
        warn(f"left out {count} of {capture.title}, {listed(names)}: {reason}", LeftOutWarning)
    largest = max((finding.largest for finding in findings), default=0.0)
    for note, names in notes.items():
        text = note.replace("{largest}", f"{largest:,.0f}")
        warn(f"{len(names)} of {total} photos of {capture.title}, {listed(names)}: {text}")
    if decode:
        warn_of_focals([frame.image_path for frame in kept])
    return replace(capture, frames=tuple(kept), left_out=(*capture.left_out, *lost))


def photos_without_camera(capture: Capture) -> Capture:
    """Return a capture that names the photos beside its own that none of its cameras belongs to.

    A warning names them, too. Masks and images of depth or normals are not photos.
    """
    used = {frame.image_path.resolve() for frame in capture.frames}
    used |= {frame.mask_path.resolve() for frame in capture.frames if frame.mask_path is not None}
    folders = sorted({frame.image_path.parent for frame in capture.frames})
    beside = [path for folder in folders for path in without_masks(list_images(folder))]
    named = {Path(name).name for name in capture.left_out}
    rest = [
        path.name
        for path in beside
        if path.resolve() not in used
        and path.name not in named
        and not any(word in path.stem.lower() for word in NOT_PHOTOS)
    ]
    if rest:
        warn(
            f"left out {counted(len(rest), 'photo')} of {capture.title}, {listed(rest)}: the "
            "capture has no cameras for them; pass source='solve' to solve those of all photos",
            LeftOutWarning,
            ["source"],
        )
    return replace(capture, left_out=(*capture.left_out, *rest))


def _inspect(path: Path, decode: bool) -> _Finding:
    try:
        notes, largest = ((), 0.0) if is_raw(path) else _notes(path)
        if decode or is_raw(path) or not _is_whole(path):
            thumbnail(path)
    except UnreadablePhoto as error:
        return _Finding(error.reason)
    if decode and is_panorama(path):
        notes = (*notes, PANORAMA_NOTE)
    elif decode and not is_raw(path) and looks_like_panorama(path):
        notes = (*notes, f"twice as wide as high, with sides that meet: {PANORAMA_NOTE}")
    return _Finding("", notes, largest)


def is_panorama(path: Path) -> bool:
    """Return whether the metadata of a photo (XMP of Google's photo sphere) say so."""
    with path.open("rb") as file:
        return PANORAMA_MARK.search(file.read(HEADER_BYTES)) is not None


def looks_like_panorama(path: Path) -> bool:
    """Return whether a photo of 2:1 goes on at the other side, as a panorama without metadata.

    Its last column is then as like its first as it is like a neighbour.
    """
    try:
        with open_image(path) as image, decoding(path):
            if not image.width == 2 * image.height > PANORAMA_PX:
                return False
            size = 2 * PANORAMA_PX, PANORAMA_PX
            image.draft("L", size)
            small = grey_of(path, image).resize(size, Image.Resampling.BOX)
    except UnreadablePhoto:
        return False
    # Details along each column; plain backgrounds, which are alike on both sides, have none.
    details = np.diff(np.asarray(small, np.float32), axis=0)
    lengths = np.linalg.norm(details, axis=0)
    following = np.roll(details, -1, axis=1), np.roll(lengths, -1)
    likeness = (details * following[0]).sum(0) / np.maximum(lengths * following[1], 1)
    return bool(likeness[-1] > max(MIN_LIKENESS, 0.5 * float(np.median(likeness))))


def _notes(path: Path) -> tuple[tuple[str, ...], float]:
    """Return what happens to the pixels of an image, and their largest value where it matters.

    Raises:
        UnreadablePhoto: The image is of no use.
    """
    with open_image(path) as image, decoding(path):
        size, several = image.size, image.format in SEVERAL_IMAGES
        notes = [conversion_of(image, declared_space(path, image))]
        codes = eight_bit(path, image)
        notes.append(codes.assumed)
        if several and getattr(image, "n_frames", 1) > 1:
            notes.append("the file holds several images, of which the first is used")
    if min(size) < MIN_SIDE_PX:
        raise UnreadablePhoto(path, f"it is only {size[0]}x{size[1]} px; remove it")
    return tuple(filter(None, notes)), codes.largest


def _is_whole(path: Path) -> bool:
    """Return whether the end of the file shows that nothing is cut off."""
    with open_image(path) as image:
        length, pattern = ENDINGS.get(image.format or "", (0, b""))
    if length == 0:
        return False
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - length, 0))
        return pattern in file.read()


def thumbnail(path: Path) -> Float[np.ndarray, " p"]:
    """Return the grey values of a small square copy.

    Raises:
        UnreadablePhoto: The pixels cannot be decoded.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadablePhoto(path, "image not found; check the path") from error
    return _thumbnail(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2000)
def _thumbnail(path: Path, _mtime_ns: int, _bytes: int) -> Float[np.ndarray, " p"]:
    opened = developed(path, half=True) if is_raw(path) else open_image(path)
    with opened as image, decoding(path):
        # JPEG files are decoded at a fraction of their size.
        image.draft("L", (4 * THUMBNAIL_PX, 4 * THUMBNAIL_PX))
        size = THUMBNAIL_PX, THUMBNAIL_PX
        small = grey_of(path, image).resize(size, Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel()
