"""Files of RealEstate10K (Zhou et al. 2018).

They are pixelSplat's .torch chunks, or the original .txt files with frames; and pixelSplat's
evaluation index. Cameras are camera from world, OpenCV axes; intrinsics are stored as fractions of
the image size. Damaged frames and clips are skipped and counted: of 67,000 clips some are broken.
"""

import functools
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from recon.errors import InputError
from render import Cameras
from training.data.types import Skipped, Unusable

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
TXT_COLUMNS = 19  # timestamp, fx fy cx cy, 0 0, 3x4 matrix
# A JPEG file is decoded at a reduced scale of at least this times the final size (Pillow's advice).
REDUCING_GAP = 2


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
    """List the chunks, else the .txt files, of a folder; raise InputError if it has neither."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; expected RealEstate10K chunks or .txt files")
    files = sorted(folder.glob("*.torch")) or sorted(folder.glob("*.txt"))
    if not files:
        raise InputError(f"{folder} has neither .torch chunks nor .txt files of RealEstate10K")
    return files


def clips_of_file(path: Path, skipped: Skipped) -> Iterator[Clip]:
    """Read the clips of a chunk, or the single clip of a .txt file."""
    if path.suffix == ".torch":
        yield from _chunk_clips(path, skipped)
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
    viewmats = torch.eye(4).repeat(len(rows), 1, 1)
    viewmats[:, :3] = rows[:, 6:].reshape(-1, 3, 4).float()
    return Clip(key, rows[:, :4].float(), viewmats, read)


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
        pixels[row], K = _frame(clip.read(index), clip.intrinsics[index], width, height)
        Ks.append(K)
    cameras = Cameras(clip.viewmats[list(frames)], torch.stack(Ks), width, height)
    images = torch.from_numpy(pixels).movedim(-1, 1).contiguous()
    return images.float().div_(255), cameras


def _frame(
    data: bytes, intrinsics: Float[Tensor, "4"], width: int, height: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[Tensor, "3 3"]]:
    try:
        with Image.open(io.BytesIO(data)) as file:
            scale = max(width / file.width, height / file.height)
            size = (round(file.width * scale), round(file.height * scale))
            file.draft("RGB", (REDUCING_GAP * size[0], REDUCING_GAP * size[1]))
            frame = file.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError):
        raise Unusable("corrupt image") from None
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    if size != frame.size:
        # Only what remains of the frame is resampled.
        x, y = frame.width / size[0], frame.height / size[1]
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        frame = frame.resize((width, height), Image.Resampling.LANCZOS, box)
    elif size != (width, height):
        frame = frame.crop((left, top, left + width, top + height))
    fx, fy, cx, cy = intrinsics.tolist()
    K = torch.tensor(
        [[fx * size[0], 0, cx * size[0] - left], [0, fy * size[1], cy * size[1] - top], [0, 0, 1]]
    )
    return np.asarray(frame), K


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
