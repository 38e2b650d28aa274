"""Captures without cameras: folders and lists of image files."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from recon.capture.images import natural_key
from recon.capture.maps import without_maps
from recon.capture.masks import without_masks
from recon.capture.names import FOLDERS, SMALLER_COPIES, images_below
from recon.capture.types import Capture, Frame
from recon.errors import InputError, LeftOutWarning, counted, listed, warn
from recon.photo_extensions import IMAGE_EXTENSIONS_TEXT, is_image

# Names that macOS gives photos that are in iCloud only.
ICLOUD = re.compile(r"\..+\.icloud")


def read_folder(folder: Path) -> Capture:
    """Read the photos of a folder in natural order.

    Without photos in the folder itself, those in its subfolder `images` (or `input`, `photos`, ...)
    are read, else those in all subfolders. Masks are no photos. A warning names the folders whose
    photos are not read.

    Raises:
        InputError: There are no images.
    """
    photos, maps = without_maps(without_masks(list(images_below(folder))))
    by_folder: dict[str, list[Path]] = defaultdict(list)
    for path in photos:
        parts = path.relative_to(folder).parts
        by_folder[parts[0] if len(parts) > 1 else "."].append(path)
    chosen = _chosen(by_folder)
    images = [path for name in chosen for path in by_folder[name]]
    if not images:
        raise _nothing_found(folder)
    _warn_of_folders(folder, by_folder, chosen)
    names = sorted((p.relative_to(folder).as_posix() for p in images), key=natural_key)
    frames = tuple(Frame(name, folder / name) for name in names)
    rest = [path for name in _not_chosen(by_folder, chosen) for path in by_folder[name]]
    if maps := [path for path in maps if path.parent in {image.parent for image in images}]:
        found = listed([path.name for path in maps])
        warn(
            f"{folder}: left out {counted(len(maps), 'image')} beside photos, by their names maps "
            f"of depth, normals or the like: {found}"
        )
    lost = tuple(path.relative_to(folder).as_posix() for path in [*rest, *maps])
    return Capture(folder, "images", frames, left_out=lost)


def _chosen(by_folder: dict[str, list[Path]]) -> list[str]:
    """Return the subfolders to read ("." for the folder itself)."""
    for wanted in (".", *FOLDERS):
        found = [name for name in by_folder if name.lower() == wanted]
        if found:
            return found
    copies = {name: SMALLER_COPIES.fullmatch(name) for name in by_folder}
    others = [name for name, copy in copies.items() if copy is None]
    sizes = {name: int(copy[1]) for name, copy in copies.items() if copy}
    return others or [min(sizes, key=lambda name: sizes[name])] if by_folder else []


def _nothing_found(folder: Path) -> InputError:
    files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    bare = sorted(p.name for p in files if not p.suffix)
    suffixes = sorted({p.suffix.lower() for p in files if p.suffix})
    kinds = [f"{', '.join(suffixes)} files"] * bool(suffixes)
    kinds += [f"files without an extension ({listed(bare)}), which photos need"] * bool(bare)
    absent = sorted(path.name for path in folder.iterdir() if ICLOUD.fullmatch(path.name))
    kinds += [f"files that are in iCloud only ({listed(absent)})"] * bool(absent)
    found = f"only {' and '.join(kinds)}" if kinds else "no files"
    return InputError(
        f"no images in {folder}: found {found}, expected {IMAGE_EXTENSIONS_TEXT}, "
        "a transforms.json, a COLMAP project or poses_bounds.npy"
    )


def _not_chosen(by_folder: dict[str, list[Path]], chosen: list[str]) -> list[str]:
    """Return the folders of photos that are not used, without those of smaller copies."""
    names = [name for name in by_folder if name not in [*chosen, "."]]
    return [name for name in names if not SMALLER_COPIES.fullmatch(name)]


def _warn_of_folders(folder: Path, by_folder: dict[str, list[Path]], chosen: list[str]) -> None:
    rest = _not_chosen(by_folder, chosen)
    if rest:
        counts = [f"{name}/ ({len(by_folder[name])})" for name in rest]
        taken = "the folder itself" if chosen == ["."] else listed([f"{n}/" for n in chosen])
        text = f"{folder}: the photos in {taken} are used, and not those in {listed(counts)}"
        warn(text, LeftOutWarning)
    elif chosen not in (["."], ["images"]):
        names = [f"{name}/ ({len(by_folder[name])})" for name in chosen]
        warn(f"{folder} has no photos itself; those in its subfolders are used: {listed(names)}")


def read_files(files: Sequence[Path]) -> Capture:
    """Read a list of image files as a capture, in the order of the list; each file once.

    Raises:
        InputError: The list is empty, or a file is missing or not an image.
    """
    if not files:
        raise InputError("the list of photos is empty; expected the paths of image files")
    for file in files:
        if not file.is_file():
            raise InputError(f"image not found: {file}; check the path")
        if not is_image(file):
            raise InputError(f"{file} is not an image; expected one of {IMAGE_EXTENSIONS_TEXT}")
    counts = Counter(file.resolve() for file in files)
    if repeated := [file.name for file, count in counts.items() if count > 1]:
        warn(f"photos are given several times and used once: {listed(repeated)}")
    resolved = list(counts)
    root = Path(os.path.commonpath([file.parent for file in resolved]))
    frames = tuple(Frame(file.relative_to(root).as_posix(), file) for file in resolved)
    return Capture(root, "images", frames)
