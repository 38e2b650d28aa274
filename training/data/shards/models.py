"""Files of meshes to render, and what they say about their authors and licences."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from recon.errors import InputError, shortened
from recon.lists import read_entries
from training.data.captures import read_source
from training.data.meshes.source import SUFFIXES
from training.data.shards.tar import safe_key

# Longest JSON part of a .glb file, or .gltf file, that is read for its attribution (bytes).
MAX_JSON = 64 << 20


@dataclass(frozen=True)
class Model:
    """A mesh file to render."""

    key: str
    """Its path in the folder or list, without dots and slashes; unique."""
    path: Path
    facts: dict[str, str] = field(default_factory=dict)
    """What a list says about it, such as its licence."""
    root: Path | None = None
    """Folder up to which SOURCE.txt counts for the models below it."""

    def attribution(self) -> dict[str, str]:
        """Return author, licence and source: of SOURCE.txt, of the file, and of the list."""
        found: dict[str, str] = {}
        for folder in reversed(self.path.parents) if self.root is not None else ():
            if folder.is_relative_to(self.root or folder):
                found |= read_source(folder)
        return found | _asset_facts(self.path) | self.facts


def list_models(source: Path) -> list[Model]:
    """Return the models of a folder (searched recursively) or of a list, or a single one.

    A list is a text file with a path a line, relative to it, or a .jsonl file whose objects have a
    `path`; what else they have is kept as attribution.

    Raises:
        InputError: There are none, or the list cannot be read, or names what is no mesh file.
    """
    found: list[tuple[str, Path, dict[str, str], Path | None]]
    if source.is_dir():
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        root = source.resolve()
        found = [(p.relative_to(source).as_posix(), p.resolve(), {}, root) for p in paths]
    elif source.is_file() and source.suffix.lower() in SUFFIXES:
        found = [(source.name, source.resolve(), {}, source.resolve().parent)]
    else:
        found = list(_listed(source))
    if not found:
        raise InputError(f"no {', '.join(SUFFIXES)} files in {source}")
    models, keys = [], set[str]()
    for index, (name, path, facts, top) in enumerate(found):
        key = safe_key(name)
        key = f"{key}_{index}" if key in keys else key
        keys.add(key)
        models.append(Model(key, path, facts, top))
    return models


def _listed(path: Path) -> Iterator[tuple[str, Path, dict[str, str], Path | None]]:
    """Yield the paths in a list, as they are there and absolute, and what else it says."""
    if not path.exists():
        raise InputError(f"no folder, list or mesh {path}; expected a folder of meshes")
    expected = f"expected a {', '.join(SUFFIXES)} file a line"
    for entry in read_entries(path):
        if entry.path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{path}: line {entry.line}: {expected}, found {shortened(entry.name)}"
            )
        if not entry.path.is_file():
            raise InputError(
                f"{path}: line {entry.line}: no such file {entry.path}; correct or remove the line"
            )
        yield entry.name, entry.path, {k: str(v) for k, v in entry.facts.items()}, None


def _asset_facts(path: Path) -> dict[str, str]:
    """Return copyright, author, licence and the like of a glTF file; none if it has no such."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".glb":
                magic, _, _, length, _ = struct.unpack("<4sIII4s", file.read(20))
                text = file.read(length) if magic == b"glTF" and length <= MAX_JSON else b""
            else:
                text = file.read(MAX_JSON) if path.suffix.lower() == ".gltf" else b""
        asset = json.loads(text)["asset"]
        extras = asset.get("extras") or {}
        entries = {"copyright": asset.get("copyright"), **extras}
        return {str(key): value for key, value in entries.items() if isinstance(value, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}
