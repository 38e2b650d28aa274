"""Files of RealEstate10K (Zhou et al. 2018).

They are pixelSplat's .torch chunks, the original .txt files with frames, or tar files of clips that
`recon data convert` has made of either; and pixelSplat's evaluation index. Cameras are camera from
world, OpenCV axes; intrinsics are stored as fractions of the image size. Damaged frames and clips
are skipped and counted: of 67,000 clips some are broken.
"""

import functools
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.errors import InputError
from render import Cameras
from training.data.frames import decode_frame, viewmats_of_rows
from training.data.shards.tar import Shard, open_shard
from training.data.types import Skipped, Unusable

CLIP_SUFFIXES = (".torch", ".tar", ".txt")
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
TXT_COLUMNS = 19  # timestamp, fx fy cx cy, 0 0, 3x4 matrix


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
        raise InputError(f"no folder {folder}; expected RealEstate10K chunks or .txt files")
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
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
        skipped.note("unreadable chunk")
        return
    for scene in scenes if isinstance(scenes, list) else ():
        try:
            cameras, images = scene["cameras"], scene["images"]
            rows = cameras.reshape(len(images), 18)
            yield _clip(scene["key"], rows, functools.partial(_tensor_bytes, images))
        except (KeyError, TypeError, RuntimeError, AttributeError):
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
            yield _clip(facts["key"], rows, functools.partial(_tar_bytes, shard, key, facts))
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError, InputError):
            skipped.note("clip without key, cameras or images")


def _tar_bytes(shard: Shard, key: str, facts: Mapping[str, Any], index: int) -> bytes:
    name = facts["frames"][index]
    if name is None:
        raise Unusable("missing frame")
    return shard.read(key, name)


def _tensor_bytes(images: Sequence[Tensor], index: int) -> bytes:
    return images[index].contiguous().numpy().tobytes()


def _text_clip(path: Path, skipped: Skipped) -> Clip | None:
    """Read a .txt file: a URL, then one line per frame.

    The frames are in the folder of the same name, named by timestamp.
    """
    lines = [line.split() for line in path.read_text().splitlines()[1:] if line.strip()]
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
        InputError: The file cannot be read.
    """
    try:
        index = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read the evaluation index {path}: {error}") from None
    items = []
    for key, entry in index.items():
        if entry is None:
            skipped.note("null entry of the index")
            continue
        items.append(EvaluationItem(key, tuple(entry["context"]), tuple(entry["target"])))
    return items


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
