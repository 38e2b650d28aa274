"""Copies of the photos for the solver, of moderate size and grouped by camera."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recon.capture.exif import exif_down, exif_focals
from recon.capture.images import read_image, read_mask, resized, scaled_size
from recon.capture.names import portable
from recon.capture.orientation import mask_as_stored
from recon.capture.types import Frame

# Longest side of the images that features are extracted from (px).
SOLVE_LONG_SIDE_PX = 1600


@dataclass(frozen=True)
class PreparedImages:
    """Copies of the photos in a temporary folder, and what the job file says about them."""

    folder: Path
    masks: Path | None
    """Folder of a mask NAME.png for each image, where features on black are ignored; None if no
    photo has a mask or transparency."""
    groups: tuple[dict[str, Any], ...]
    """Images that share a camera, with its focal length (px) if EXIF gives one."""
    originals: dict[str, dict[str, Any]]
    """For each image, the name and size of its photo and the down direction in it."""


def prepare_images(frames: Sequence[Frame], folder: Path) -> PreparedImages:
    """Write copies of the photos; photos of one size, camera and focal length share a camera.

    The EXIF orientation is not applied, so that solved cameras describe the pixels as they are
    stored, like given cameras.
    """
    originals = {}
    masks: dict[str, np.ndarray | None] = {}
    groups: dict[tuple[int, int, float | None, str], dict[str, Any]] = {}
    focals = exif_focals([frame.image_path for frame in frames])
    for index, (frame, exif) in enumerate(zip(frames, focals, strict=True)):
        name = f"{index:05d}.jpg"
        (width, height), small, masks[name] = _write_copy(frame, folder / name)
        shown, down = portable(frame.name), exif_down(frame.image_path)
        originals[name] = {"name": shown, "width": width, "height": height, "down": down}
        focal = exif.focal_px
        scaled = None if focal is None else focal * small[0] / width
        group = {"names": [], "width": small[0], "height": small[1], "focal_px": scaled}
        groups.setdefault((width, height, focal, exif.camera), group)["names"].append(name)
    return PreparedImages(folder, _write_masks(folder, masks), tuple(groups.values()), originals)


def _write_masks(images: Path, masks: Mapping[str, np.ndarray | None]) -> Path | None:
    """Write the masks of images to a folder beside theirs, if any has one, for all images."""
    if all(mask is None for mask in masks.values()):
        return None
    folder = images.with_name("masks")
    folder.mkdir()
    for name, mask in masks.items():
        if mask is None:
            with Image.open(images / name) as image:
                mask = np.full(image.size[::-1], 255, np.uint8)
        Image.fromarray(mask).save(folder / f"{name}.png")
    return folder


def _write_copy(
    frame: Frame, target: Path
) -> tuple[tuple[int, int], tuple[int, int], np.ndarray | None]:
    """Write a copy without transparency, at most SOLVE_LONG_SIDE_PX long.

    Returns:
        (width, height) of the photo and of the copy, and a mask of the copy's size: 255 where it
        is to be matched, and 0 elsewhere; None if that is everywhere.
    """
    colors, alpha = read_image(frame.image_path, apply_orientation=False)
    if alpha is not None:
        colors = colors * alpha[..., None]
    size = colors.shape[1], colors.shape[0]
    small = scaled_size(size, SOLVE_LONG_SIDE_PX / max(size))
    mask = None if alpha is None else resized(alpha, small) >= 0.5
    if frame.mask_path is not None:
        stored = read_mask(frame.mask_path, frame.mask_inverted)
        own = resized(mask_as_stored(stored, replace(frame, oriented=False), size), small) >= 128
        mask = own if mask is None else mask & own
    pixels = (255 * resized(colors, small) + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(target, quality=95, subsampling=0)
    return size, small, None if mask is None else np.where(mask, 255, 0).astype(np.uint8)
