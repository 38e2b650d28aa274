"""Photos by the names that other tools give them: of other folders, computers or systems."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from recon.capture.images import UnreadablePhoto, image_size
from recon.errors import InputError, LeftOutWarning, listed, warn
from recon.photo_extensions import IMAGE_EXTENSIONS, IMAGE_EXTENSIONS_TEXT, is_image

# Folders in the order in which they are searched if several have a photo of the same name.
FOLDERS = ("images", ".", "input", "photos", "rgb", "color", "image")
SMALLER_COPIES = re.compile(r"images?_(\d+)", re.IGNORECASE)
MASK_FOLDER = re.compile(r"(?:images?|photos?)?[_-]?masks?(?:_\d+)?", re.IGNORECASE)
# Folders of images that are no photos.
NO_PHOTOS = re.compile(
    r"\..*|depths?|normals?|confidence|segmentation|semantics?|sparse|stereo|thumb(nail)?s?|"
    r"__macosx|@eadir",
    re.IGNORECASE,
)
MAX_DEPTH, MAX_FILES = 6, 200_000
ABSOLUTE = re.compile(r"|[a-z]:", re.IGNORECASE)

Parts = tuple[str, ...]


@dataclass(frozen=True)
class _File:
    path: Path
    parts: Parts
    """Normalised parts of the path relative to the root."""


@dataclass(frozen=True)
class _Location:
    """A folder that has the photos whose names begin with a prefix, without this prefix."""

    prefix: Parts
    base: Parts

    def rank(self) -> tuple[int, int, int, Parts]:
        """Sort the likelier location first."""
        folder = self.base[-1] if self.base else "."
        copies = SMALLER_COPIES.fullmatch(folder)
        order = FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)
        return len(self.prefix), int(copies[1]) if copies else 0, order, self.base


def is_mask_folder(name: str) -> bool:
    """Return whether a folder of this name is one of masks."""
    return MASK_FOLDER.fullmatch(name) is not None


def images_below(root: Path, masks: bool = False) -> Iterator[Path]:
    """Yield the images in a folder and its subfolders, sorted by folder.

    Args:
        root: The folder.
        masks: Whether to look into folders of masks as well.
    """
    seen: set[Path] = set()
    count = 0
    for folder, subfolders, files in os.walk(root, followlinks=True):
        current = Path(folder)
        # A link may lead back to a folder above it.
        if (real := current.resolve()) in seen or len(current.relative_to(root).parts) >= MAX_DEPTH:
            subfolders.clear()
        if real in seen:
            continue
        seen.add(real)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not NO_PHOTOS.fullmatch(name) and (masks or not is_mask_folder(name))
        )
        for name in sorted(files):
            if is_image(Path(name)):
                yield current / name
        count += len(files)
        if count > MAX_FILES:
            return


def find_photos(
    root: Path, names: Sequence[str], where: str, folders: Sequence[str] = (".",)
) -> list[Path | None]:
    """Find photos by their names, and warn of those that are missing or have another name.

    Photos whose header cannot be read count as missing.

    A name may be that of another computer (absolute, with backslashes), in another case, without
    extension or with another one. Then all names with the same beginning are looked up in the one
    folder that has most of them by the last parts of their names.

    Args:
        root: Folder of the capture.
        names: Names of the photos.
        where: The file that names them, for messages.
        folders: Folders below the root that the names may be relative to, the likeliest first.

    Returns:
        The path of each photo; None where it is missing.

    Raises:
        InputError: There is none of the photos.
    """
    found = _located(root, names, where, folders)
    reasons: dict[str, str] = {}
    for i, path in enumerate(found):
        if path is not None:
            try:
                image_size(path)
            except UnreadablePhoto as error:
                found[i], reasons[names[i]] = None, error.reason
    if reasons:
        first = next(iter(reasons.values()))
        text = f"{where}: {len(reasons)} of {len(names)} photos, {listed(list(reasons))}: {first}"
        if not any(found):
            raise InputError(f"cannot read any photo of {text}")
        warn(f"left out photos of {text}", LeftOutWarning)
    return found


def _located(
    root: Path, names: Sequence[str], where: str, folders: Sequence[str]
) -> list[Path | None]:
    """Find photos by their names."""
    for folder in folders:
        exact = [_exact(root / folder, name) for name in names]
        if all(exact):
            return exact
    images = list(images_below(root))
    found = _lookup(root, names, images)
    unclear = [
        name
        for name in _several(names, images)
        if not any(_exact(root / folder, name) for folder in folders)
    ]
    if unclear:
        text = (
            f"{where} gives several photos the same name, and there are several files of it, so "
            f"that it is not clear which is which: {listed(unclear)}; give each photo a name of "
            "its own, or its folder"
        )
        if set(names) <= set(unclear):
            raise InputError(text)
        warn(f"{text}; they are left out", LeftOutWarning)
        found = [None if n in unclear else path for n, path in zip(names, found, strict=True)]
    missing = [
        name
        for name, path in zip(names, found, strict=True)
        if path is None and name not in unclear
    ]
    unread = [name for name in missing if _is_there(root, folders, name)]
    if len(missing) == len(names) and unread:
        raise InputError(
            f"{where} names files that recon does not read: {listed(unread)}; expected "
            f"{IMAGE_EXTENSIONS_TEXT}; convert them"
        )
    if len(missing) == len(names):
        raise InputError(
            f"{where} names images that do not exist, in {root} or in a folder below it: "
            f"{listed(names)}; put them there"
        )
    _warn_of_names(root, names, found, where)
    if missing:
        reason = f", or not read ({IMAGE_EXTENSIONS_TEXT} are)," if unread else ""
        warn(
            f"{where}: {len(missing)} of {len(names)} photos are missing{reason} and left out: "
            f"{listed(missing)}",
            LeftOutWarning,
        )
    return found


def _several(names: Sequence[str], images: Sequence[Path]) -> list[str]:
    """Return the names that are given several times, of which there are several files.

    Smaller copies do not count.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if not repeated:
        return []
    originals = [path for path in images if not SMALLER_COPIES.fullmatch(path.parent.name)]
    unclear = []
    for name in repeated:
        parts = normalised(name)
        ends = [normalised(path.as_posix())[-len(parts) :] for path in originals]
        fits = [end[:-1] == parts[:-1] and stem(end[-1]) == stem(parts[-1]) for end in ends]
        if sum(fits) > 1:
            unclear.append(name)
    return unclear


def _is_there(root: Path, folders: Sequence[str], name: str) -> bool:
    """Return whether there is a file of a name, of whatever kind."""
    try:
        return any((root / folder / name).is_file() for folder in folders)
    except (OSError, ValueError):
        return False


def find_masks(root: Path, names: Sequence[str], where: str) -> list[Path | None]:
    """Find the masks of these names as `find_photos` does, and warn of missing ones."""
    found = [_exact(root, name) for name in names]
    if not all(found):
        found = _lookup(root, names, list(images_below(root, masks=True)))
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        warn(
            f"{where} names masks that are not there, so that their photos are used whole: "
            f"{listed(missing)}"
        )
    return found


def _exact(folder: Path, name: str) -> Path | None:
    try:
        path = folder / name.removeprefix("file://")
        return path if is_image(path) and path.is_file() else None
    except (OSError, ValueError):
        # The name is too long, or has characters that no file can have.
        return None


def _lookup(root: Path, names: Sequence[str], images: Sequence[Path]) -> list[Path | None]:
    """Find names among the images below a folder."""
    by_stem: dict[str, list[_File]] = defaultdict(list)
    for path in images:
        parts = normalised(path.relative_to(root).as_posix())
        by_stem[stem(parts[-1])].append(_File(path, parts))
    found = [None if _inside(root, name) else _exact(root, name) for name in names]
    wanted = {i: normalised(name) for i, name in enumerate(names) if found[i] is None}
    for i, parts in wanted.items():
        if parts and stem(parts[-1]) not in by_stem:
            wanted[i] = normalised(unquote(names[i]))
    locations = {i: _locations(parts, by_stem) for i, parts in wanted.items()}
    while counts := Counter(location for i in wanted for location in locations[i]):
        most = max(counts.values())
        location = min((p for p, n in counts.items() if 2 * n >= most), key=_Location.rank)
        bound = [i for i, parts in wanted.items() if _begins(parts, location.prefix)]
        for i in bound:
            rest = location.base + wanted.pop(i)[len(location.prefix) :]
            found[i] = _best(names[i], rest, by_stem)
    return _claimed_once(names, found)


def _inside(root: Path, name: str) -> bool:
    """Return whether a name is relative and does not leave the folder."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def name_below(path: Path, folder: Path) -> str:
    """Return the name of a file relative to a folder, or its path if it is not below it."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def portable(name: str) -> str:
    """Return a name that UTF-8 can write: bytes of file names that are not UTF-8 become %NN."""
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def normalised(name: str) -> Parts:
    """Split a name into parts that compare equal on all systems."""
    text = unicodedata.normalize("NFC", name.strip().removeprefix("file://")).casefold()
    parts = text.replace("\\", "/").split("/")
    return tuple(part for i, part in enumerate(parts) if part != "." and (part or i == 0))


def stem(name: str) -> str:
    """Return a name without the extension of an image."""
    base, dot, extension = name.rpartition(".")
    return base if base and dot + extension.lower() in IMAGE_EXTENSIONS else name


def _locations(parts: Parts, by_stem: dict[str, list[_File]]) -> set[_Location]:
    """Return where a name may be: the locations that agree with most of its last parts."""
    files = by_stem.get(stem(parts[-1]), []) if parts else []
    common = {file.parts: _common_end(parts[:-1], file.parts[:-1]) + 1 for file in files}
    longest = max(common.values(), default=0)
    return {
        _Location(parts[: len(parts) - n], end[: len(end) - n])
        for end, n in common.items()
        if n == longest
    }


def _common_end(a: Parts, b: Parts) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[-1 - count] == b[-1 - count]:
        count += 1
    return count


def _begins(parts: Parts, prefix: Parts) -> bool:
    absolute = bool(parts) and ABSOLUTE.fullmatch(parts[0]) is not None
    return parts[: len(prefix)] == prefix and (bool(prefix) or not absolute)


def _best(name: str, parts: Parts, by_stem: dict[str, list[_File]]) -> Path | None:
    """Return the file at a normalised path whose name differs least."""
    files = [f for f in by_stem.get(stem(parts[-1]), []) if f.parts[:-1] == parts[:-1]]
    return min(
        (file.path for file in files), key=lambda path: _difference(name, path), default=None
    )


def _difference(name: str, path: Path) -> tuple[int, int]:
    """Return how much a file's name differs (3: another extension), and a rank of its extension."""
    wanted = re.split(r"[\\/]", name.strip())[-1]
    order = IMAGE_EXTENSIONS.index(path.suffix.lower())
    if wanted == path.name:
        return 0, order
    a, b = normalised(wanted)[-1], normalised(path.name)[-1]
    if a == b:
        return 1, order
    return (2 if stem(a) == a else 3), order


def _claimed_once(names: Sequence[str], found: list[Path | None]) -> list[Path | None]:
    """Give a file that several names lead to to the one that differs least."""
    owner: dict[Path, int] = {}
    for i, path in enumerate(found):
        if path is not None:
            other = owner.setdefault(path, i)
            if _difference(names[i], path) < _difference(names[other], path):
                owner[path] = i
    return [
        path if path is None or owner[path] == i or names[owner[path]] == names[i] else None
        for i, path in enumerate(found)
    ]


def _warn_of_names(
    root: Path, names: Sequence[str], found: Sequence[Path | None], where: str
) -> None:
    """Warn of photos in a folder, or with an extension, that their names do not tell."""
    guessed = []
    for name, path in zip(names, found, strict=True):
        if path is None or not path.is_relative_to(root):
            continue
        wanted, parts = normalised(name), normalised(path.relative_to(root).as_posix())
        below = parts[1:] if parts[0] in FOLDERS else parts
        same_folder = wanted[:-1] in (parts[:-1], below[:-1])
        if not same_folder or _difference(name, path)[0] == 3:
            guessed.append(f"{name} is {path.relative_to(root).as_posix()}")
    if guessed:
        more = f" (and {len(guessed) - 1} more)" if len(guessed) > 1 else ""
        warn(f"{where}: photos were found by the last parts of their names: {guessed[0]}{more}")
