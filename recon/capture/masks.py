"""Masks of photos: files beside them or in a folder of masks, in the layouts of other tools."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recon.capture.names import Parts, images_below, is_mask_folder, normalised, stem
from recon.capture.types import Capture, Frame
from recon.errors import listed, warn

# NAME.mask.png, NAME.jpg.mask.png, NAME_mask.png, NAME-mask.png and mask_NAME.png.
MASK_NAME = re.compile(r"(?P<name>.+)[._-]masks?|masks?[._-](?P<other>.+)")
# instant-ngp's: white is left out.
DYNAMIC_MASK = re.compile(r"dynamic_mask_(?P<name>.+)")


@dataclass(frozen=True)
class _Mask:
    path: Path
    photo: str
    """Name of its photo, with or without extension."""
    above: Parts
    """Folders above that of the masks, or above the file if it is in none."""
    below: Parts
    """Folders below that of the masks."""


def masked_name(name: str) -> str | None:
    """Return the name of the photo that a normalised file name is the mask of, by its form."""
    base = stem(name)
    if DYNAMIC_MASK.fullmatch(base):
        return None
    match = MASK_NAME.fullmatch(base)
    return (match["name"] or match["other"]) if match else None


def without_masks(images: Sequence[Path]) -> list[Path]:
    """Return images without those that are the masks of others in the same folder."""
    present = {(path.parent, stem(normalised(path.name)[-1])) for path in images}
    return [path for path in images if not _is_mask_beside(path, present)]


def _is_mask_beside(path: Path, present: set[tuple[Path, str]]) -> bool:
    name = normalised(path.name)[-1]
    dynamic = DYNAMIC_MASK.fullmatch(stem(name))
    photo = dynamic["name"] if dynamic else masked_name(name)
    return photo is not None and (path.parent, stem(photo)) in present


def with_masks(capture: Capture, invert: bool) -> Capture:
    """Return a capture with the masks that lie beside its photos or in a folder of masks.

    A warning names photos without mask and masks without photo. Masks that the camera file names
    are kept, and no others are searched.

    Args:
        capture: The capture.
        invert: Whether black is kept, and not white.
    """
    frames = list(capture.frames)
    if not any(frame.mask_path for frame in frames):
        masks, not_read = _masks_below(capture.root, frames)
        if not_read:
            warn(
                f"{capture.title}: masks that leave out white are not read: {listed(not_read)}; "
                "rename them to NAME.mask.png and pass invert_masks=True",
                fields=["invert_masks"],
            )
        frames = _assigned(capture, frames, masks)
    if invert:
        if not any(frame.mask_path for frame in frames):
            text = f"{capture.title} has no masks, so that invert_masks=True has no effect"
            warn(text, fields=["invert_masks"])
        frames = [
            replace(frame, mask_inverted=not frame.mask_inverted) if frame.mask_path else frame
            for frame in frames
        ]
    return replace(capture, frames=tuple(frames))


def _masks_below(root: Path, frames: Iterable[Frame]) -> tuple[list[_Mask], list[str]]:
    """Return all masks below a folder, and the names of masks with another meaning."""
    photos = {frame.image_path for frame in frames}
    present = {(path.parent, stem(normalised(path.name)[-1])) for path in photos}
    masks, not_read = [], []
    for path in images_below(root, masks=True):
        parts = normalised(path.relative_to(root).as_posix())
        folder = next((i for i, part in enumerate(parts[:-1]) if is_mask_folder(part)), None)
        if path in photos or (folder is None and not _is_mask_beside(path, present)):
            continue
        if DYNAMIC_MASK.fullmatch(stem(parts[-1])):
            not_read.append(path.relative_to(root).as_posix())
            continue
        end = len(parts) - 1 if folder is None else folder
        photo = masked_name(parts[-1]) or stem(parts[-1])
        masks.append(_Mask(path, photo, parts[:end], parts[end + 1 : -1]))
    return masks, not_read


def _assigned(capture: Capture, frames: list[Frame], masks: list[_Mask]) -> list[Frame]:
    """Give each photo the mask that fits its name best."""
    if not masks:
        return frames
    by_stem: dict[str, list[int]] = defaultdict(list)
    names = [_parts(capture.root, frame) for frame in frames]
    for i, parts in enumerate(names):
        by_stem[stem(parts[-1])].append(i)
    best: dict[int, tuple[tuple[int, ...], _Mask]] = {}
    unused = []
    for mask in masks:
        fits = {i: _fit(mask, names[i]) for i in by_stem.get(stem(mask.photo), [])}
        most = max(fits.values(), default=())
        owners = [i for i, fit in fits.items() if fit == most]
        if len(owners) == 1 and most and most[0] >= 0:
            if owners[0] not in best or best[owners[0]][0] < most:
                best[owners[0]] = most, mask
        else:
            unused.append(mask.path.relative_to(capture.root).as_posix())
    _warn_of_masks(capture, [i for i in range(len(frames)) if i not in best], unused)
    return [
        replace(frame, mask_path=best[i][1].path) if i in best else frame
        for i, frame in enumerate(frames)
    ]


def _parts(root: Path, frame: Frame) -> Parts:
    path = frame.image_path
    below = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return normalised(below.as_posix())


def _fit(mask: _Mask, photo: Parts) -> tuple[int, ...]:
    """Return how well a mask fits a photo of the same stem; -1 first if it belongs to another."""
    folders, below = photo[:-1], mask.below
    if below and folders[len(folders) - len(below) :] != below:
        return (-1,)
    same = mask.above + below == folders
    exact = mask.photo == photo[-1]
    return len(below), int(same), int(exact), -len(mask.above), -_copy_number(mask.path)


def _copy_number(path: Path) -> int:
    """Return N of a folder masks_N, which has smaller copies, else 0."""
    digits = re.search(r"_(\d+)$", path.parent.name)
    return int(digits[1]) if digits and is_mask_folder(path.parent.name) else 0


def _warn_of_masks(capture: Capture, without: list[int], unused: list[str]) -> None:
    total = len(capture.frames)
    if unused:
        warn(f"{capture.title}: masks that fit none of the photos are not used: {listed(unused)}")
    if len(without) == total:
        return
    rest = ""
    if without:
        names = [capture.frames[i].name for i in without]
        rest = f"; these have none and are used whole: {listed(names)}"
    warn(
        f"{capture.title}: masks of {total - len(without)} of {total} photos are used: white is "
        f"kept, black is left out (invert_masks=True for the opposite){rest}",
        fields=["invert_masks"],
    )
