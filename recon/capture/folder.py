"""Captures without cameras: folders and lists of image files."""

import os
from collections.abc import Sequence
from pathlib import Path

from recon.capture.images import EXTENSIONS, is_image, list_images
from recon.capture.types import Capture, Frame
from recon.errors import InputError


def read_folder(folder: Path) -> Capture:
    """Read the images of a folder, or of its subfolder `images`, in natural order.

    Raises:
        InputError: There are no images.
    """
    for subfolder in (folder, folder / "images"):
        images = list_images(subfolder)
        if images:
            frames = tuple(Frame(p.relative_to(folder).as_posix(), p) for p in images)
            return Capture(folder, "images", frames)
    suffixes = sorted({p.suffix for p in folder.iterdir() if p.is_file() and p.suffix})
    found = f"only {', '.join(suffixes)} files" if suffixes else "no files"
    raise InputError(
        f"no images in {folder}: found {found}, expected {', '.join(EXTENSIONS)}, "
        "a transforms.json, a COLMAP project or poses_bounds.npy"
    )


def read_files(files: Sequence[Path]) -> Capture:
    """Read a list of image files as a capture, in the order of the list.

    Raises:
        InputError: The list is empty or has a file twice, or a file is missing or not an image.
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
