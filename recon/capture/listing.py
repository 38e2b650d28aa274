"""Plain folders of photos."""

import os
import re
from collections.abc import Sequence
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


def read_files(files: Sequence[Path]) -> Capture:
    """Read a list of image files as a capture, in the order of the list.

    Raises:
        InputError: The list is empty or names a file twice, or a file is missing or no image.
    """
    if not files:
        raise InputError("the list of photos is empty; expected the paths of image files")
    for file in files:
        if not file.is_file():
            raise InputError(f"image not found: {file}; check the path")
        if not is_image(file):
            raise InputError(f"{file} is not an image; expected one of {', '.join(EXTENSIONS)}")
    resolved = [file.resolve() for file in files]
    if len(set(resolved)) < len(resolved):
        twice = next(file for file in resolved if resolved.count(file) > 1)
        raise InputError(f"{twice} is in the list of photos twice; remove one")
    root = Path(os.path.commonpath([file.parent for file in resolved]))
    frames = tuple(Frame(file.relative_to(root).as_posix(), file) for file in resolved)
    return Capture(root, "images", frames)
