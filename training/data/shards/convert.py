"""Convert clips of RealEstate10K and captures to shards."""

import hashlib
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from recon.capture import Capture, load_views
from recon.errors import InputError, ReconError, counted, listed
from recon.files import check_output
from recon.reporting import note, telling_warnings
from recon.resumable import PLAN, add_row, begin_folder, read_rows
from recon.types import Views
from recon.workers import Halt, local_results
from render import Cameras
from render.video import to_bytes
from training.data.captures import posed_captures, read_posed, read_source
from training.data.photo_windows import Photo
from training.data.realestate10k import Clip, clips_of_file
from training.data.shards.tar import (
    INDEX,
    MANIFEST,
    PackedScene,
    camera_facts,
    fractional_intrinsics,
    open_shard,
    safe_key,
    write_manifest,
    write_shard,
)
from training.data.sparse_depth import other_ranges, sparse_depths
from training.data.sparse_points import read_sparse_points
from training.data.stored import nearest_cameras
from training.data.types import Skipped, Unusable

# Photos whose depth range is unknown are compared with this number of neighbours.
NEIGHBOURS = 3
# First bytes of a PNG file.
PNG = b"\x89PNG"
SKIPPED = "skipped.jsonl"
MAX_REASONS = 3
# How messages call what plan.json records, and what to do if it has changed.
NAMES = {"source": "FOLDER", "contents": "a FOLDER of"} | {
    key: f"--{key}" for key in ("side", "quality", "scenes")
}
REMEDY = (
    "choose a new folder, or the same options and contents; what is new can be converted by itself "
    "to another folder"
)


@dataclass(frozen=True)
class ConvertOptions:
    """How scenes become shards."""

    side: int | None = None
    """Shorter side of the images (px), which are made smaller but never larger; None keeps the
    images of clips as they are, byte for byte, and photos at their full size."""
    quality: int = 95
    """Quality of JPEG files that are written anew."""
    scenes: int = 64
    """Files or captures in a tar file; all clips of a .torch chunk go into one."""


@dataclass
class Report:
    """What has become of the files or captures of a shard."""

    scenes: int = 0
    frames: int = 0
    """Frames of the scenes, with those that have no image."""
    missing: int = 0
    """Frames that have no image."""
    skipped: list[dict[str, Any]] = field(default_factory=list)
    """What is left out: rows of skipped.jsonl."""

    def leave_out(self, item: Path, reasons: Counter[str], whole: bool) -> None:
        """List a file or a capture that has no scene, or the clips of a chunk that have none."""
        row = {"key": item.name, "path": str(item)}
        texts = [text if n == 1 else f"{text} ({n})" for text, n in reasons.items()]
        if whole:
            self.skipped.append(row | {"reason": ", ".join(texts) or "it has no clips"})
        else:
            counts = zip(texts, reasons.values(), strict=True)
            self.skipped += [row | {"reason": text, "clips": n} for text, n in counts]


def convert(source: Path, out: Path, options: ConvertOptions, processes: int = 1) -> str:
    """Write all shards that a folder lacks; return a line that says what the folder holds.

    What cannot be used is listed in skipped.jsonl and not tried again.

    Raises:
        InputError: There is nothing to convert, nothing of it can be used, or the folder was begun
            with other options or another source.
    """
    tasks = _tasks(source, options, out)
    facts = {"source": str(source.resolve()), "side": options.side, "quality": options.quality}
    facts |= {"scenes": options.scenes, "contents": _contents(tasks)}
    is_new = not out.exists()
    begin_folder(out, {"kind": "convert", **facts}, REMEDY, NAMES)
    folder = _Output(out)
    waiting = [(out / name, left) for name, paths in tasks if (left := folder.missing(name, paths))]
    note(f"{len(tasks) - len(waiting)} of {len(tasks)} shards are in {out}")
    failed: dict[Path, str] = {}
    for path, result in _converted(waiting, options, min(processes, len(waiting))):
        if isinstance(result, str):
            failed[path] = result
        else:
            folder.add(path, result)
    if failed:
        path, reason = next(iter(failed.items()))
        raise InputError(
            f"{len(failed)} of {len(tasks)} shards could not be written; {path}: "
            f"{reason}; the same command goes on with them, and fewer --processes take less memory"
        )
    if not any(open_shard(path).index for path in out.glob("*.tar")):
        folder.undo(is_new)
        raise InputError(
            f"nothing in {source} can be converted; {folder.rows[0]['path']}: "
            f"{folder.rows[0]['reason']}"
        )
    return write_manifest(out) + folder.left_out()


Task = tuple[str, list[Path]]
"""Name of a tar file, and the files or captures that go into it."""


def _tasks(source: Path, options: ConvertOptions, out: Path) -> list[Task]:
    """Divide a folder into shards, always in the same way."""
    if not source.is_dir():
        raise InputError(
            f"no folder {source}; expected RealEstate10K chunks, .txt files or captures"
        )
    texts = sorted(source.glob("*.txt"))
    clips = [path for path in texts if path.with_suffix("").is_dir()]
    chunks = sorted(source.glob("*.torch"))
    if chunks:
        if clips:
            note(f"skipped {counted(len(clips), '.txt file')} of clips beside the .torch chunks")
        return [(f"{path.stem}.tar", [path]) for path in chunks]
    if clips and len(clips) < len(texts):
        names = [path.name for path in texts if path not in clips]
        note(f"skipped .txt files without a folder of frames of that name: {listed(names)}")
    items = clips or _captures(source, out)
    starts = range(0, len(items), options.scenes)
    return [(f"{s // options.scenes:06d}.tar", items[s : s + options.scenes]) for s in starts]


def _captures(source: Path, out: Path) -> list[Path]:
    """Return the captures of a folder, with those that turn out to be unusable.

    These belong to a shard, too, for when they are repaired. Folders of shards are no captures.

    Raises:
        InputError: None is usable.
    """
    others: list[tuple[Path, str]] = []
    found = [path for path, _ in posed_captures(source, lambda *other: others.append(other))]
    if not found:
        # Folders without photos are not worth a reason.
        reasons = [reason for _, reason in others if not reason.startswith("no images in")]
        text = f": {'; '.join(reasons[:MAX_REASONS])}" if reasons else ""
        raise InputError(
            f"{source} has no .torch chunks, no .txt files with frames and no captures with "
            f"cameras{text}"
        )
    unusable = [path.absolute() for path, _ in others if not (path / PLAN).is_file()]
    return sorted([*found, *(path for path in unusable if path.resolve() != out.resolve())])


def _contents(tasks: list[Task]) -> str:
    """Describe what shards are made of; if it changes, others go into the same shard.

    Chunks have a shard each, by name, and may become more.
    """
    items = [path for _, paths in tasks for path in paths]
    if _is_chunk(items[0]):
        return "chunks"
    digest = hashlib.blake2b(repr([p.name for p in items]).encode(), digest_size=6).hexdigest()
    return f"{counted(len(items), 'capture' if items[0].is_dir() else 'clip')} ({digest})"


def _is_chunk(path: Path) -> bool:
    return path.suffix == ".torch"


class _Output:
    """A folder of shards, and the list of what is left out of them."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / SKIPPED
        check_output(self.path)
        self.rows = read_rows(self.path)
        if not all("key" in row and "path" in row and "reason" in row for row in self.rows):
            raise InputError(f"cannot read {self.path}; remove it, and all in it is tried again")
        self.frames = self.missing_frames = 0

    def missing(self, name: str, paths: list[Path]) -> list[Path]:
        """Return the files or captures to write a shard of; none if it has all that it can have."""
        skipped = {row["key"] for row in self.rows if "clips" not in row}
        usable = [path for path in paths if path.name not in skipped]
        shard = self.out / name
        if not shard.is_file():
            return usable
        keys = open_shard(shard).index
        if _is_chunk(paths[0]):
            return [] if keys else usable
        return [] if all(safe_key(_key(path)) in keys for path in usable) else usable

    def add(self, path: Path, report: Report) -> None:
        """List what is left out of a shard that was written, and say what it has."""
        for row in report.skipped:
            note(f"skipped {row['path']}: {row['reason']}")
            if row not in self.rows:
                self.rows.append(row)
                add_row(self.path, row)
        self.frames += report.frames
        self.missing_frames += report.missing
        if report.scenes:
            note(f"wrote {path}: {counted(report.scenes, 'scene')}")

    def left_out(self) -> str:
        """Return the end of a line: how much is left out."""
        count = sum(row.get("clips", 1) for row in self.rows)
        text = f", {count} skipped (see {self.path})" if count else ""
        if self.missing_frames:
            text += f", {self.missing_frames:,} of {self.frames:,} frames missing or broken"
        return text

    def undo(self, is_new: bool) -> None:
        """Remove what was written into a folder that has no scenes."""
        shards = [path for tar in self.out.glob("*.tar") for path in (tar, tar.with_suffix(INDEX))]
        for path in (*shards, self.path, self.out / PLAN, self.out / MANIFEST):
            path.unlink(missing_ok=True)
        if is_new:
            self.out.rmdir()


def _key(path: Path) -> str:
    """Return the key of the scene that a capture or a .txt file becomes."""
    return path.name if path.is_dir() else path.stem


def _converted(
    tasks: list[tuple[Path, list[Path]]], options: ConvertOptions, processes: int
) -> Iterator[tuple[Path, Report | str]]:
    """Yield the shards and what they hold, or why one could not be written."""
    if processes <= 1:
        yield from ((path, convert_shard(path, paths, options)) for path, paths in tasks)
        return
    jobs = [(index, (*task, options)) for index, task in enumerate(tasks)]
    for index, result in local_results(_in_process, jobs, processes, math.inf):
        found = result if isinstance(result, str) else Report(**json.loads(result))
        yield tasks[index][0], found


def _in_process(path: Path, paths: list[Path], options: ConvertOptions) -> bytes | Halt:
    """Write a shard in a process of its own; what it cannot write stops all."""
    try:
        with telling_warnings():
            return json.dumps(asdict(convert_shard(path, paths, options))).encode()
    except ReconError as error:
        return Halt(str(error))


def convert_shard(path: Path, paths: list[Path], options: ConvertOptions) -> Report:
    """Write files or captures to a tar file; without a scene, only that of a chunk is there.

    Training draws a chunk first, and then a clip of it: one that has none must be among the shards
    so that batches are the same.

    Raises:
        InputError: It cannot be written.
    """
    torch.set_num_threads(1)
    report = Report()
    scenes = _scenes(paths, options, report)
    first = list(itertools.islice(scenes, 1))
    if first or _is_chunk(paths[0]):
        report.scenes = write_shard(path, itertools.chain(first, scenes))
    return report


def _scenes(paths: list[Path], options: ConvertOptions, report: Report) -> Iterator[bytes]:
    keys: set[str] = set()
    for item in paths:
        skipped, before = Skipped(), len(keys)
        for scene in _packed(item, options, skipped):
            key, frames = safe_key(scene.key), scene.facts["frames"]
            if key in keys:
                skipped.note("clip whose key was there before")
                continue
            keys.add(key)
            report.frames += len(frames)
            report.missing += frames.count(None)
            yield scene.to_tar()
        if skipped.reasons or len(keys) == before:
            report.leave_out(item, skipped.reasons, whole=len(keys) == before)


def _packed(path: Path, options: ConvertOptions, skipped: Skipped) -> Iterator[PackedScene]:
    if not path.is_dir():
        for clip in clips_of_file(path, skipped):
            scene = pack_clip(clip, options)
            if scene.files:
                yield scene
            else:
                skipped.note(f"clip {clip.key} whose {len(clip)} frames are missing or broken")
        return
    read = read_posed(path)
    try:
        if isinstance(read, str):
            skipped.note(read)
        else:
            yield pack_capture(read[0], path, options)
    except ReconError as error:
        skipped.note(str(error))


def pack_clip(clip: Clip, options: ConvertOptions) -> PackedScene:
    """Return a clip as a scene; frames that are missing or damaged have no image."""
    files: dict[str, bytes] = {}
    names: list[str | None] = []
    for index in range(len(clip)):
        try:
            content = _smaller(clip.read(index), options)
        except Unusable:
            names.append(None)
            continue
        suffix = "png" if content.startswith(PNG) else "jpg"
        name = f"{index:04d}.{suffix}"
        names.append(name)
        files[name] = content
    cameras = camera_facts(clip.intrinsics, clip.viewmats)
    return PackedScene(clip.key, {"kind": "clip", "frames": names, **cameras}, files)


def pack_capture(capture: Capture, folder: Path, options: ConvertOptions) -> PackedScene:
    """Return undistorted photos with their cameras, depth ranges and points as a scene."""
    points = read_sparse_points(capture)
    files: dict[str, bytes] = {}
    names, views = [], []
    for index, frame in enumerate(capture.frames):
        assert frame.camera is not None
        size = frame.camera.width, frame.camera.height
        scale = 1.0 if options.side is None else min(1.0, options.side / min(size))
        views.append(load_views([frame], round(scale * max(size))))
        names.append(f"{index:04d}.jpg")
        files[names[-1]] = _jpeg(Image.fromarray(to_bytes(views[-1].images[0])), options.quality)
    facts: dict[str, Any] = {"kind": "photos", "frames": names, "alpha": False}
    if points is not None:
        facts["points"] = [f"{index:04d}.points.npy" for index in range(len(names))]
        for name, seen in zip(facts["points"], points.seen, strict=True):
            files[name] = _npy(points.xyz[seen])
    ranges = []
    everyone = _joined(views)
    for index, view in enumerate(views):
        _, found = sparse_depths(points, [index], view.cameras)
        known = bool(found.isfinite().all()) and view.depth_bounds is None
        ranges.append(found[0] if known else _range(views, everyone, index))
    near, far = torch.stack(ranges).T.tolist()
    facts |= {"near": near, "far": far, "attribution": read_source(folder)}
    intrinsics = torch.cat([fractional_intrinsics(view.cameras) for view in views])
    return PackedScene(folder.name, facts | camera_facts(intrinsics, everyone.viewmats), files)


def _range(views: list[Views], everyone: Cameras, index: int) -> Float[Tensor, "2"]:
    """Return the depth range of a photo that no points give: stated, or of a plane sweep."""
    # The same size for all of them, as a plane sweep needs.
    near_ones = [
        i
        for i in nearest_cameras(everyone, index)
        if views[i].images.shape == views[index].images.shape
    ][: NEIGHBOURS + 1]
    images = torch.cat([views[i].images for i in near_ones])
    photos = []
    for i in near_ones:
        stated = views[i].depth_bounds
        bounds = None if stated is None else stated[0]
        photos.append(Photo(np.empty((0, 0, 3), np.uint8), views[i].cameras[0], bounds))
    cameras = Cameras.cat([views[i].cameras for i in near_ones])
    return other_ranges(photos, images, cameras, everyone)[0]


def _joined(views: list[Views]) -> Cameras:
    """Return all cameras as if their images had one size, for their positions and directions."""
    first = views[0].cameras
    viewmats = torch.cat([view.cameras.viewmats for view in views])
    Ks = torch.cat([view.cameras.Ks for view in views])
    return Cameras(viewmats, Ks, first.width, first.height)


def _smaller(content: bytes, options: ConvertOptions) -> bytes:
    """Return an image file whose shorter side is at most the wanted one.

    Raises:
        Unusable: The file is damaged.
    """
    if options.side is None:
        return content
    try:
        with Image.open(io.BytesIO(content)) as file:
            scale = options.side / min(file.size)
            if scale >= 1:
                return content
            size = (round(scale * file.width), round(scale * file.height))
            file.draft("RGB", (2 * size[0], 2 * size[1]))
            image = file.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Unusable("corrupt image") from None
    return _jpeg(image, options.quality)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
