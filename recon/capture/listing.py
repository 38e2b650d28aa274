"""Plain folders of photos."""

import re
from pathlib import Path

from recon.capture.images import EXTENSIONS, is_image
from recon.capture.types import Capture, Frame
from recon.errors import InputError


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts photo 2 before photo 10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order; none when there is no such folder."""
    return sorted(filter(is_image, folder.glob("*")), key=lambda path: natural_key(path.name))


def read_folder(folder: Path) -> Capture:
    """The images of a folder (or of its subfolder `images`), in natural order.

    InputError, with the extensions that would be read, when there is none.
    """
    for place in (folder, folder / "images"):
        images = list_images(place)
        if images:
            frames = tuple(Frame(p.relative_to(folder).as_posix(), p) for p in images)
            return Capture(folder, "images", frames)
    found = sorted({p.suffix for p in folder.iterdir() if p.is_file() and p.suffix})
    held = f"only {', '.join(found)} files" if found else "no files"
    raise InputError(
        f"no images in {folder}: found {held}, expected {', '.join(EXTENSIONS)}, "
        "a transforms.json, a COLMAP project or poses_bounds.npy"
    )
