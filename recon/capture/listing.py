"""Plain folders of photos."""

import re
from pathlib import Path

from recon.capture.images import EXTENSIONS, is_image
from recon.capture.types import Capture, Frame
from recon.errors import ReconError


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts photo 2 before photo 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def read_folder(folder: Path) -> Capture:
    """The images of a folder (or of its subfolder `images`), in natural order."""
    for place in (folder, folder / "images"):
        images = sorted(filter(is_image, place.glob("*")), key=natural_key)
        if images:
            frames = tuple(Frame(p.relative_to(folder).as_posix(), p) for p in images)
            return Capture(folder, "images", frames)
    found = sorted({p.suffix for p in folder.iterdir() if p.is_file() and p.suffix})
    held = f"only {', '.join(found)} files" if found else "no files"
    raise ReconError(
        f"no images in {folder}: found {held}, expected {', '.join(EXTENSIONS)}, "
        "a transforms.json, a COLMAP project or poses_bounds.npy"
    )
