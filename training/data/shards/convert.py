"""Convert clips of RealEstate10K and captures to shards."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recon.errors import InputError, ReconError, counted, listed
from recon.files import check_output
from recon.reporting import note, telling_warnings
from recon.resumable import PLAN, add_row, begin_folder, read_rows
from recon.workers import Halt, local_results
from render.backends.threads import torch_on_one_thread
from training.data.captures import posed_captures, read_posed
from training.data.realestate10k import clips_of_file
from training.data.shards.pack import ConvertOptions, pack_capture, pack_clip
from training.data.shards.tar import (
    INDEX,
    MANIFEST,
    SKIPPED,
    PackedScene,
    digest_of,
    open_shard,
    safe_key,
    write_manifest,
    write_shard,
)
from training.data.types import Skipped

MAX_REASONS = 3
# How messages call what plan.json records, and what to do if it has changed.
NAMES = {"source": "FOLDER", "contents": "a FOLDER of"} | {
    key: f"--{key}" for key in ("side", "quality", "scenes")
}
REMEDY = (
    "choose a new folder, or the same options and contents; what is new can be converted by itself "
    "to another folder"
)


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
    count = counted(len(items), "capture" if items[0].is_dir() else "clip")
    return f"{count} ({digest_of([path.name for path in items])})"


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
    report = Report()
    # The same in all processes: sums may depend on the number of threads.
    with torch_on_one_thread():
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
