"""Photos as the solver takes them: plain pictures of moderate size, sorted by camera."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from recon.capture.exif import exif_focal
from recon.capture.images import image_size, read_image
from recon.capture.types import Frame

# Long side of the pictures that features are looked for in (px).
SOLVE_PX = 1600
LENS = "SIMPLE_RADIAL"


@dataclass(frozen=True)
class Prepared:
    """Pictures in a scratch folder, and what the job says of them."""

    folder: Path
    names: tuple[str, ...]
    """Of the pictures, in the order of the frames."""
    groups: tuple[dict[str, Any], ...]
    """Photos that share a camera, with what EXIF says of its focal length."""
    originals: dict[str, dict[str, Any]]
    """Name and size of the photo that each picture came from."""


def prepare(frames: Sequence[Frame], folder: Path) -> Prepared:
    """Write the pictures. Photos of one size, camera and focal length share a camera.

    They are taken as they are stored, whatever EXIF says of turning them: so are given cameras.
    """
    names, originals = [], {}
    groups: dict[tuple, list[str]] = defaultdict(list)
    for number, frame in enumerate(frames):
        name = f"{number:05d}.jpg"
        size = _write(frame.image_path, folder / name)
        width, height = image_size(frame.image_path)
        names.append(name)
        originals[name] = {"name": frame.name, "width": width, "height": height}
        focal, model = exif_focal(frame.image_path)
        scaled = None if focal is None else focal * size[0] / width
        groups[(width, height, *size, scaled, model)].append(name)
    rows = tuple(
        {
            "names": members,
            "width": key[2],
            "height": key[3],
            "focal_px": key[4],
            "model": LENS,
        }
        for key, members in groups.items()
    )
    return Prepared(folder, tuple(names), rows, originals)


def _write(source: Path, target: Path) -> tuple[int, int]:
    """The picture without transparency, at most SOLVE_PX long; its (width, height)."""
    colors, alpha = read_image(source, apply_orientation=False)
    if alpha is not None:
        colors = colors * alpha[..., None]
    height, width = colors.shape[:2]
    scale = min(SOLVE_PX / max(width, height), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if size != (width, height):
        colors = cv2.resize(colors, size, interpolation=cv2.INTER_AREA)
    Image.fromarray((255 * colors + 0.5).astype(np.uint8)).save(target, quality=95, subsampling=0)
    return size
