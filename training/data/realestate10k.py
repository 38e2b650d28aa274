"""RealEstate10K (Zhou et al. 2018) as it lies on disks: pixelSplat's .torch chunks, or the
original .txt files with frames beside them; and pixelSplat's evaluation index.

Cameras are camera from world, OpenCV axes; intrinsics are stored as fractions of the picture.
Damaged frames and scenes are skipped and counted, never fatal: of 67,000 films some are broken.
"""

import functools
import io
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from recon.errors import InputError
from render import Cameras
from training.data.types import Skipped, Unusable

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
TXT_COLUMNS = 19  # timestamp, fx fy cx cy, 0 0, 3x4 matrix


@dataclass(frozen=True)
class Clip:
    """One film: cameras of all frames, pictures on demand."""

    key: str
    intrinsics: Float[Tensor, "n 4"]
    """fx, fy, cx, cy as fractions of width and height."""
    viewmats: Float[Tensor, "n 4 4"]
    read: Callable[[int], bytes]
    """Bytes of a frame's picture file; Unusable when it is missing."""

    def __len__(self) -> int:
        return len(self.viewmats)


@dataclass(frozen=True)
class EvaluationItem:
    """Frames of one scene of the evaluation index."""

    key: str
    context: tuple[int, ...]
    target: tuple[int, ...]


def clip_files(folder: Path) -> list[Path]:
    """Chunks, else .txt files, of a folder; ReconError when it has neither."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; expected RealEstate10K chunks or .txt files")
    files = sorted(folder.glob("*.torch")) or sorted(folder.glob("*.txt"))
    if not files:
        raise InputError(f"{folder} has neither .torch chunks nor .txt files of RealEstate10K")
    return files


def clips_of_file(path: Path, skipped: Skipped) -> Iterator[Clip]:
    """The clips of a chunk, or the one of a .txt file."""
    if path.suffix == ".torch":
        yield from _chunk_clips(path, skipped)
        return
    clip = _text_clip(path, skipped)
    if clip is not None:
        yield clip


def open_clips(folder: Path, skipped: Skipped) -> Iterator[Clip]:
    """Every clip of a folder."""
    for path in clip_files(folder):
        yield from clips_of_file(path, skipped)


def _chunk_clips(path: Path, skipped: Skipped) -> Iterator[Clip]:
    """Scenes of a chunk: key, cameras [n 18] (fx fy cx cy 0 0, 3x4), images as JPEG bytes."""
    try:
        scenes = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
        skipped.note("unreadable chunk")
        return
    for scene in scenes if isinstance(scenes, list) else ():
        try:
            cameras, images = scene["cameras"], scene["images"]
            rows = cameras.reshape(len(images), 18)
            yield _clip(scene["key"], rows, functools.partial(_tensor_bytes, images))
        except (KeyError, TypeError, RuntimeError, AttributeError):
            skipped.note("scene without key, cameras or images")


def _tensor_bytes(images: Sequence[Tensor], index: int) -> bytes:
    return images[index].contiguous().numpy().tobytes()


def _text_clip(path: Path, skipped: Skipped) -> Clip | None:
    """A .txt file: a URL, then a line a frame; frames in the folder of the same name, named
    by timestamp."""
    lines = [line.split() for line in path.read_text().splitlines()[1:] if line.strip()]
    if not lines or any(len(line) != TXT_COLUMNS for line in lines):
        skipped.note("txt file with lines of other than 19 numbers")
        return None
    try:
        rows = torch.tensor([[float(value) for value in line[1:]] for line in lines])
    except ValueError:
        skipped.note("txt file with something else than numbers")
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
    viewmats = torch.eye(4).repeat(len(rows), 1, 1)
    viewmats[:, :3] = rows[:, 6:].reshape(-1, 3, 4).float()
    return Clip(key, rows[:, :4].float(), viewmats, read)


def load_frames(
    clip: Clip, frames: Sequence[int], width: int, height: int
) -> tuple[Float[Tensor, "v 3 h w"], Cameras]:
    """Pictures of one size and their cameras, by pixelSplat's protocol: scaled (Lanczos) until
    they cover width x height, then the middle. Unusable when a frame cannot be used."""
    pictures, Ks = [], []
    for index in frames:
        if not 0 <= index < len(clip):
            raise Unusable("frame number beyond the clip")
        picture, K = _frame(clip.read(index), clip.intrinsics[index], width, height)
        pictures.append(picture)
        Ks.append(K)
    cameras = Cameras(clip.viewmats[list(frames)], torch.stack(Ks), width, height)
    return torch.stack(pictures), cameras


def _frame(
    data: bytes, intrinsics: Float[Tensor, "4"], width: int, height: int
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 3"]]:
    try:
        with Image.open(io.BytesIO(data)) as file:
            photo = file.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError):
        raise Unusable("corrupt picture") from None
    scale = max(width / photo.width, height / photo.height)
    size = (round(photo.width * scale), round(photo.height * scale))
    if size != photo.size:
        photo = photo.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    pixels = np.asarray(photo.crop((left, top, left + width, top + height))).copy()
    fx, fy, cx, cy = intrinsics.tolist()
    K = torch.tensor(
        [[fx * size[0], 0, cx * size[0] - left], [0, fy * size[1], cy * size[1] - top], [0, 0, 1]]
    )
    return torch.from_numpy(pixels).float().movedim(-1, 0) / 255, K


def read_evaluation_index(path: Path, skipped: Skipped) -> list[EvaluationItem]:
    """pixelSplat's index: {key: null | {"context": [...], "target": [...]}}; nulls are counted."""
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
    """Context then target pictures of every item whose clip is there and whole."""
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
        skipped.note("scene of the index not found")
