"""Images beside photos that are no photos, by their names: depth, normals and other maps."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from recon.capture.names import normalised, stem

KINDS = re.compile(
    r"(?<![a-z])(?:depths?|disparity|disp|normals?|confidence|conf|alpha|albedo|semantics?|"
    r"segmentation)(?![a-z])"
)
# Words of the photos themselves, where each kind of image has one.
PHOTO_WORDS = re.compile(r"(?<![a-z])(?:colou?rs?|rgb|images?|img|frames?|photos?)(?![a-z])")
WORD = re.compile(r"[a-z]+|\d+")


def without_maps(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split images into photos, and maps of photos in the same folder.

    A map has one of the words of `KINDS` in its name, and what is left of this name without it
    begins as that of a photo: `a_depth.png` beside `a.jpg`, `frame-7.depth.png` beside
    `frame-7.color.png`, `depth007.png` beside `frame007.jpg`, `r_0_depth_0001.png` beside
    `r_0.png`.
    """
    photos: dict[Path, set[tuple[str, ...]]] = defaultdict(set)
    for path in images:
        if not KINDS.search(_name(path)):
            photos[path.parent].add(_words(path))
    maps = [path for path in images if _is_map(path, photos[path.parent])]
    return [path for path in images if path not in set(maps)], maps


def _is_map(path: Path, photos: set[tuple[str, ...]]) -> bool:
    if not KINDS.search(_name(path)):
        return False
    words = _words(path)
    return any(words[:end] in photos for end in range(1, len(words) + 1))


def _words(path: Path) -> tuple[str, ...]:
    """Return the words and numbers of a name, without those of kinds of images."""
    name = PHOTO_WORDS.sub(" ", KINDS.sub(" ", _name(path)))
    return tuple(WORD.findall(name))


def _name(path: Path) -> str:
    return stem(normalised(path.name)[-1])
