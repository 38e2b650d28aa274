"""Tar files of scenes in WebDataset's layout, read at random.

A scene KEY is the member KEY.json followed by its images KEY.0000.jpg, KEY.0001.jpg and so on.
Whatever reads WebDataset reads them; here, offsets of the members are kept beside the tar file in
NAME.index.json, so that a batch reads the images that it needs and nothing else.
"""

import functools
import hashlib
import io
import json
import os
import re
import tarfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from recon.errors import InputError, counted
from recon.files import atomic_output
from recon.reporting import shown_size
from render import Cameras

INDEX, MANIFEST, FACTS = ".index.json", "shards.json", "json"
# List of what a command leaves out of a folder of shards.
SKIPPED = "skipped.jsonl"
Index = dict[str, dict[str, list[int]]]
"""Offset and size of each member, by the scene's key and the rest of the member's name."""


@dataclass(frozen=True)
class PackedScene:
    """A scene as it is written to a tar file."""

    key: str
    """Name that is unique in its data set."""
    facts: Mapping[str, Any]
    """Kind, cameras and names of the images (see docs/training-data.md), as JSON."""
    files: Mapping[str, bytes]
    """Contents of the images, by name without the key, such as 0000.jpg."""

    def to_tar(self) -> bytes:
        """Return its members as a tar file; the same scene always gives the same bytes."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            facts = json.dumps({"key": self.key, **self.facts}).encode()
            for name, content in {FACTS: facts, **self.files}.items():
                member = tarfile.TarInfo(f"{safe_key(self.key)}.{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            return buffer.getvalue()[: tar.offset]


def fractional_intrinsics(cameras: Cameras) -> Float[Tensor, "n 4"]:
    """Return fx, fy, cx, cy as fractions of width and height."""
    size = torch.tensor([cameras.width, cameras.height])
    K = cameras.Ks
    return torch.cat([K[:, [0, 1], [0, 1]] / size, K[:, :2, 2] / size], 1)


def camera_facts(
    intrinsics: Float[Tensor, "n 4"], viewmats: Float[Tensor, "n 4 4"]
) -> dict[str, Any]:
    """Return the cameras of a scene as JSON holds them.

    Args:
        intrinsics: fx, fy, cx, cy as fractions of width and height.
        viewmats: World to camera.
    """
    return {
        "intrinsics": intrinsics.float().tolist(),
        "viewmats": viewmats[:, :3].flatten(1).float().tolist(),
    }


def safe_key(key: str) -> str:
    """Return a key without dots and slashes, at which WebDataset divides names."""
    return re.sub(r"[^\w-]", "_", key)


def digest_of(names: Sequence[str]) -> str:
    """Return a short text that tells lists of names apart."""
    return hashlib.blake2b(repr(names).encode(), digest_size=6).hexdigest()


def write_shard(path: Path, scenes: Iterable[bytes]) -> int:
    """Write scenes (`PackedScene.to_tar`) to a tar file and its index; return their number.

    The tar file appears last and complete: if it exists, so does its index.
    """
    with atomic_output(path) as temporary:
        with temporary.open("wb") as file:
            for scene in scenes:
                file.write(scene)
            file.write(bytes(2 * tarfile.BLOCKSIZE))
        index = _scanned(temporary)
        with atomic_output(path.with_suffix(INDEX)) as beside:
            text = json.dumps({"bytes": temporary.stat().st_size, "members": index})
            beside.write_text(text, encoding="utf-8")
    return len(index)


@dataclass(frozen=True, eq=False)
class Shard:
    """An open tar file of scenes."""

    path: Path
    descriptor: int
    index: Index

    def facts(self, key: str) -> dict[str, Any]:
        """Return what the JSON member of a scene says; raise InputError if it is damaged."""
        try:
            found = json.loads(self.read(key, FACTS))
        except (ValueError, KeyError, OSError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise InputError(f"{self.path}: scene {key} has no readable {key}.{FACTS}")
        return found

    def read(self, key: str, name: str) -> bytes:
        """Return the content of a member; raise KeyError if there is none."""
        offset, size = self.index[key][name]
        return os.pread(self.descriptor, size, offset)

    def scene(self, key: str) -> bytes:
        """Return a scene as it was written (`PackedScene.to_tar`); InputError if it is damaged."""
        facts = self.facts(key)
        files = {name: self.read(key, name) for name in self.index[key] if name != FACTS}
        return PackedScene(facts.pop("key", key), facts, files).to_tar()


def open_shard(path: Path) -> Shard:
    """Open a tar file of scenes, or return it as it is already open.

    Raises:
        InputError: The file is not a tar file, or is damaged.
    """
    try:
        return _opened(path, path.stat().st_mtime_ns)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"cannot read {path}: {error}; expected a tar file of scenes") from None


@functools.lru_cache(maxsize=64)
def _opened(path: Path, changed_ns: int) -> Shard:
    """Open a file; one that was written again since is another."""
    index = _stored_index(path) or _scanned(path)
    shard = Shard(path, os.open(path, os.O_RDONLY), index)
    weakref.finalize(shard, os.close, shard.descriptor)
    return shard


def _stored_index(path: Path) -> Index | None:
    """Return the index beside a tar file; None if there is none, or it is of another file."""
    try:
        stored = json.loads(path.with_suffix(INDEX).read_text(encoding="utf-8"))
        members: Index = stored["members"]
        valid = stored["bytes"] == path.stat().st_size and isinstance(members, dict)
        return members if valid else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _scanned(path: Path) -> Index:
    """Read the offsets of all members from their headers; members of other layouts are left out."""
    index: Index = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            key, dot, rest = name.partition(".")
            if member.isfile() and dot:
                key = f"{folder}/{key}" if folder else key
                index.setdefault(key, {})[rest] = [member.offset_data, member.size]
    return {key: members for key, members in index.items() if FACTS in members}


def write_manifest(folder: Path) -> str:
    """Write the number of scenes of every tar file, so that a training need not open all.

    Returns:
        A line that says what the folder holds.
    """
    shards = {
        path.name: {"scenes": len(open_shard(path).index), "bytes": path.stat().st_size}
        for path in sorted(folder.glob("*.tar"))
    }
    with atomic_output(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"shards": shards}, indent=1) + "\n", encoding="utf-8")
    scenes = sum(entry["scenes"] for entry in shards.values())
    size = shown_size(sum(entry["bytes"] for entry in shards.values()) / 1e6)
    return f"wrote {folder}: {counted(scenes, 'scene')} in {counted(len(shards), 'shard')}, {size}"


def count_scenes(folder: Path) -> list[tuple[Path, int]]:
    """Return the tar files of a folder with their numbers of scenes.

    Raises:
        InputError: There are none, or one that the manifest lacks is damaged.
    """
    found = []
    known = _listed_scenes(folder)
    for path in sorted(folder.glob("*.tar")):
        count, size = known.get(path.name, (0, -1))
        current = size == path.stat().st_size
        found.append((path, count if current else len(open_shard(path).index)))
    if not any(count for _, count in found):
        raise InputError(
            f"no scenes in .tar files in {folder}; write them with recon data convert or "
            "recon data render-meshes"
        )
    return found


def _listed_scenes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the numbers of scenes and of bytes by tar file that the manifest, if any, lists."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["shards"].items()
        return {name: (int(entry["scenes"]), int(entry["bytes"])) for name, entry in listed}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
