"""Files of RealEstate10K (Zhou et al. 2018).

They are pixelSplat's .torch chunks, the original .txt files with frames, or tar files of clips that
`recon data convert` has made of either; and pixelSplat's evaluation index. Cameras are camera from
world, OpenCV axes; intrinsics are stored as fractions of the image size. Damaged frames and clips
are skipped and counted: of 67,000 clips some are broken.
"""

import functools
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.errors import InputError, shortened
from render import Cameras
from training.data.frames import decode_frame, viewmats_of_rows
from training.data.shards.tar import Shard, open_shard
from training.data.types import Skipped, Unusable

CLIP_SUFFIXES = (".torch", ".tar", ".txt")
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
INDEX_ENTRY = '{"context": [frames], "target": [frames]}'
TXT_COLUMNS = 19  # timestamp, fx fy cx cy, 0 0, 3x4 matrix
# What the contents of a damaged clip may raise.
DAMAGED = (LookupError, TypeError, ValueError, RuntimeError, AttributeError)


@dataclass(frozen=True)
class Clip:
    """One clip: cameras of all frames, and their images on demand."""

    key: str
    intrinsics: Float[Tensor, "n 4"]
    """fx, fy, cx, cy as fractions of width and height."""
    viewmats: Float[Tensor, "n 4 4"]
    """Camera from world."""
    read: Callable[[int], bytes]
    """Returns the bytes of a frame's image file; raises Unusable if it is missing."""

    def __len__(self) -> int:
        return len(self.viewmats)


@dataclass(frozen=True)
class EvaluationItem:
    """Frame indices of one clip of the evaluation index."""

    key: str
    context: tuple[int, ...]
    target: tuple[int, ...]


def clip_files(folder: Path) -> list[Path]:
    """List the chunks, else the tar files, else the .txt files, of a folder.

    Raises:
        InputError: It has none of them.
    """
    if not folder.is_dir():
        raise InputError(
            f"no folder {folder}; expected one with .torch chunks or .txt files of RealEstate10K, "
            "or .tar files of recon data convert"
        )
    for suffix in CLIP_SUFFIXES:
        files = sorted(folder.glob(f"*{suffix}"))
        if files:
            return files
    raise InputError(f"{folder} has no .torch chunks, .tar or .txt files of RealEstate10K")


def clips_of_file(path: Path, skipped: Skipped) -> Iterator[Clip]:
    """Read the clips of a chunk or a tar file, or the single clip of a .txt file."""
    if path.suffix != ".txt":
        yield from (_tar_clips if path.suffix == ".tar" else _chunk_clips)(path, skipped)
        return
    clip = _text_clip(path, skipped)
    if clip is not None:
        yield clip


def open_clips(folder: Path, skipped: Skipped) -> Iterator[Clip]:
    """Read every clip of a folder."""
    for path in clip_files(folder):
        yield from clips_of_file(path, skipped)


def _chunk_clips(path: Path, skipped: Skipped) -> Iterator[Clip]:
    """Read a chunk: per clip key, cameras [n 18] (fx fy cx cy 0 0, 3x4), images as JPEG bytes."""
    try:
        # Memory-mapped: only the frames that are used are read. Chunks of torch < 1.6 cannot be.
        scenes = torch.load(path, weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception:  # torch's reader goes by the bytes of the file, and raises what they lead to
        skipped.note("unreadable chunk")
        return
    if not isinstance(scenes, list):
        skipped.note("unreadable chunk")
        return
    for scene in scenes:
        try:
            cameras, images = scene["cameras"], scene["images"]
            rows = cameras.reshape(len(images), 18)
            yield _clip(str(scene["key"]), rows, functools.partial(_tensor_bytes, images))
        except DAMAGED:
            skipped.note("clip without key, cameras or images")


def _tar_clips(path: Path, skipped: Skipped) -> Iterator[Clip]:
    try:
        shard = open_shard(path)
    except InputError:
        skipped.note("unreadable tar file")
        return
    for key in shard.index:
        try:
            facts = shard.facts(key)
            intrinsics, viewmats = (torch.tensor(facts[k]) for k in ("intrinsics", "viewmats"))
            rows = torch.cat([intrinsics, torch.zeros(len(viewmats), 2), viewmats], 1)
            frames = functools.partial(_tar_bytes, shard, key, list(facts["frames"]))
            yield _clip(str(facts["key"]), rows, frames)
        except (*DAMAGED, InputError):
            skipped.note("clip without key, cameras or images")


def _tar_bytes(shard: Shard, key: str, frames: Sequence[str | None], index: int) -> bytes:
    name = frames[index] if index < len(frames) else None
    try:
        return shard.read(key, str(name))
    except KeyError:
        raise Unusable("missing frame") from None


def _tensor_bytes(images: Sequence[Tensor], index: int) -> bytes:
    try:
        return images[index].contiguous().numpy().tobytes()
    except DAMAGED:
        raise Unusable("missing frame") from None


def _text_clip(path: Path, skipped: Skipped) -> Clip | None:
    """Read a .txt file: a URL, then one line per frame.

    The frames are in the folder of the same name, named by timestamp.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        skipped.note("unreadable txt file")
        return None
    lines = [line.split() for line in text.splitlines()[1:] if line.strip()]
    if not lines or any(len(line) != TXT_COLUMNS for line in lines):
        skipped.note("txt file with lines that do not have 19 numbers")
        return None
    try:
        rows = torch.tensor([[float(value) for value in line[1:]] for line in lines])
    except ValueError:
        skipped.note("txt file with text other than numbers")
        return None
    stamps = [line[0] for line in lines]
    return _clip(path.stem, rows, lambda i: _frame_bytes(path.with_suffix(""), stamps[i]))


def _frame_bytes(folder: Path, stamp: str) -> bytes:
    for suffix in FRAME_SUFFIXES:
        file = folder / f"{stamp}{suffix}"
        if file.is_file():
            return file.read_bytes()
    raise Unusable("missing frame")


def _clip(key: str, rows: Float[Tensor, "n 18"], read: Callable[[int], bytes]) -> Clip:
    return Clip(key, rows[:, :4].float(), viewmats_of_rows(rows[:, 6:]), read)


def load_frames(
    clip: Clip, frames: Sequence[int], width: int, height: int
) -> tuple[Float[Tensor, "v 3 h w"], Cameras]:
    """Load frames at one size, by pixelSplat's protocol.

    Frames are scaled (Lanczos) to cover width x height, then cropped to the centre. JPEG files of
    at least four times the size are decoded at a reduced scale.

    Raises:
        Unusable: A frame is missing or damaged.
    """
    pixels, Ks = np.empty((len(frames), height, width, 3), np.uint8), []
    for row, index in enumerate(frames):
        if not 0 <= index < len(clip):
            raise Unusable("frame index beyond the clip")
        intrinsics = clip.intrinsics[index].tolist()
        pixels[row], K = decode_frame(clip.read(index), intrinsics, width, height)
        Ks.append(K)
    cameras = Cameras(clip.viewmats[list(frames)], torch.stack(Ks), width, height)
    images = torch.from_numpy(pixels).movedim(-1, 1).contiguous()
    return images.float().div_(255), cameras


def read_evaluation_index(path: Path, skipped: Skipped) -> list[EvaluationItem]:
    """Read pixelSplat's index: {key: null | {"context": [...], "target": [...]}}.

    Null entries are counted as skipped.

    Raises:
        InputError: The file cannot be read or has other contents.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read the evaluation index {path}: {error}") from None
    if not isinstance(index, dict):
        raise InputError(
            f'the evaluation index {path}: expected {{"clip": {INDEX_ENTRY}}}, found '
            f"{shortened(index)}"
        )
    items = []
    for key, entry in index.items():
        if entry is None:
            skipped.note("null entry of the index")
        else:
            items.append(_evaluation_item(path, key, entry))
    return items


def _evaluation_item(path: Path, key: str, entry: Any) -> EvaluationItem:
    context, target = (_frames(entry, role) for role in ("context", "target"))
    if not context or not target:
        raise InputError(
            f"the evaluation index {path}, clip {key}: expected {INDEX_ENTRY}, at least one frame "
            f"(whole number from 0) each, found {shortened(entry)}"
        )
    return EvaluationItem(key, context, target)


def _frames(entry: Any, role: str) -> tuple[int, ...]:
    """Return the frames of a role; none if they are not whole numbers from 0."""
    frames = entry.get(role) if isinstance(entry, dict) else None
    valid = isinstance(frames, list) and all(type(each) is int and each >= 0 for each in frames)
    return tuple(frames) if valid and frames else ()


def evaluation_views(
    folder: Path, items: Sequence[EvaluationItem], width: int, height: int, skipped: Skipped
) -> Iterator[tuple[EvaluationItem, Float[Tensor, "v 3 h w"], Cameras]]:
    """Load context, then target images of every item whose clip is available and undamaged."""
    wanted = {item.key: item for item in items}
    for clip in open_clips(folder, skipped):
        item = wanted.pop(clip.key, None)
        if item is None:
            continue
        try:
            images, cameras = load_frames(clip, (*item.context, *item.target), width, height)
        except Unusable as error:
            skipped.note(str(error))
            continue
        yield item, images, cameras
    for _ in wanted:
        skipped.note("clip of the index not found")
