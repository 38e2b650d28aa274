"""Photos as the solver takes them: plain pictures of moderate size, sorted by camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recon.capture.exif import exif_down, exif_focal
from recon.capture.images import read_image, resized, scaled_size
from recon.capture.types import Frame

# Long side of the pictures that features are looked for in (px).
SOLVE_PX = 1600


@dataclass(frozen=True)
class Prepared:
    """Pictures in a scratch folder, and what the job says of them."""

    folder: Path
    groups: tuple[dict[str, Any], ...]
    """Photos that share a camera, with what EXIF says of its focal length."""
    originals: dict[str, dict[str, Any]]
    """Name of a picture -> name and size of the photo that it came from, and what is down in it."""


def prepare(frames: Sequence[Frame], folder: Path) -> Prepared:
    """Write the pictures. Photos of one size, camera and focal length share a camera.

    They are taken as they are stored, whatever EXIF says of turning them: so are given cameras.
    """
    originals = {}
    groups: dict[tuple, dict[str, Any]] = {}
    for number, frame in enumerate(frames):
        name = f"{number:05d}.jpg"
        (width, height), small = _write(frame.image_path, folder / name)
        down = exif_down(frame.image_path)
        originals[name] = {"name": frame.name, "width": width, "height": height, "down": down}
        focal, model = exif_focal(frame.image_path)
        scaled = None if focal is None else focal * small[0] / width
        group = {"names": [], "width": small[0], "height": small[1], "focal_px": scaled}
        groups.setdefault((width, height, focal, model), group)["names"].append(name)
    return Prepared(folder, tuple(groups.values()), originals)


def _write(source: Path, target: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """The picture without transparency, at most SOLVE_PX long; (width, height) before and after."""
    colors, alpha = read_image(source, apply_orientation=False)
    if alpha is not None:
        colors = colors * alpha[..., None]
    size = colors.shape[1], colors.shape[0]
    small = scaled_size(size, SOLVE_PX / max(size))
    pixels = (255 * resized(colors, small) + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(target, quality=95, subsampling=0)
    return size, small
