"""Lists of captures to reconstruct, and what has become of each."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.errors import InputError, did_you_mean, shortened
from recon.files import check_output
from recon.lists import is_file_name, read_entries
from recon.resumable import add_row, read_rows

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Item:
    """A capture of a list."""

    capture: Path
    name: str
    """Name of its scene file, without extension; unique in the list."""


def read_list(path: Path) -> list[Item]:
    """Return the captures of a list: a text file with a path a line, relative to it, or .jsonl.

    Each object of a .jsonl file has a `path` and, if it is to be named otherwise than its folder
    or file, a `name`. Captures whose folders have the same name get those above before it.

    Raises:
        InputError: The list cannot be read, is empty, or names a capture or a scene twice.
    """
    found = []
    for entry in read_entries(path):
        name = entry.facts.get("name")
        for key in entry.facts.keys() - {"name"}:  # others, such as an author, are free
            if hint := did_you_mean(key, ["name"]):
                raise InputError(f"{path}: line {entry.line}: unknown key {key}{hint}")
        if name is not None and not _is_plain_name(name):
            raise InputError(
                f"{path}: line {entry.line}: expected the name of a scene, without folder, found "
                f"{shortened(name)}"
            )
        found.append((entry.path, name))
    if not found:
        raise InputError(f"{path} lists no captures; expected the path of a capture a line")
    names = [name or free for (_, name), free in zip(found, _names(found), strict=True)]
    _check_unique(path, names)
    return [Item(capture, name) for (capture, _), name in zip(found, names, strict=True)]


def _is_plain_name(name: Any) -> bool:
    return is_file_name(name) and Path(name).name == name and name != ".."


def _check_unique(path: Path, names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{path} calls {count} scenes {name}; give them other names in a .jsonl list"
        )


def _names(found: Sequence[tuple[Path, str | None]]) -> list[str]:
    """Return names by the last parts of the paths, as many as tell them apart."""
    parts = [_parts(capture) for capture, _ in found]
    lengths = [1] * len(parts)
    while True:
        names = ["-".join(each[-n:]) for each, n in zip(parts, lengths, strict=True)]
        twice = {name for name, count in Counter(names).items() if count > 1}
        grown = [
            min(n + (name in twice), len(each))
            for each, n, name in zip(parts, lengths, names, strict=True)
        ]
        if grown == lengths:
            return names
        lengths = grown


def _parts(capture: Path) -> list[str]:
    # Path.is_file raises an error for names that are too long.
    name = capture.stem if os.path.isfile(capture) else capture.name  # noqa: PTH113
    return [part for part in (*capture.parts[1:-1], name) if part not in ("", ".", "..")]


class Results:
    """The list of results in an output folder: a line for each capture that was tried."""

    def __init__(self, folder: Path, retry: bool) -> None:
        """Read what earlier calls have done.

        Args:
            folder: Output folder.
            retry: Whether captures that failed are tried again.

        Raises:
            InputError: The list has other contents or cannot be written.
        """
        self.path = folder / RESULTS
        check_output(self.path)
        rows = read_rows(self.path)
        self.rows = {str(row.get("capture")): row for row in rows}
        # By file name. Not from the last rows: a capture that fails later still has its scene.
        self.owners = {_scene_name(row): str(row.get("capture")) for row in rows if "output" in row}
        self.retry = retry

    def check_names(self, items: Sequence[Item], extension: str, cameras: bool) -> None:
        """Check that no scene that is there would be replaced by that of another capture.

        Args:
            items: The captures of the list.
            extension: Extension of the scenes.
            cameras: Whether their cameras are wanted too.

        Raises:
            InputError: One would; the message names both captures.
        """
        for item in items:
            scene = self.path.parent / f"{item.name}{extension}"
            owner = self.owners.get(scene.name, _key(item))
            if owner == _key(item) or self.is_done(item, extension, cameras):
                continue
            if scene.is_file():
                raise InputError(
                    f"{self.path.parent} has a scene {item.name} of {owner} already; give "
                    f"{item.capture} another name in a .jsonl list, or choose a new folder"
                )

    def is_done(self, item: Item, extension: str, cameras: bool) -> bool:
        """Return whether a capture needs no further attempt: its files exist, or it failed.

        Args:
            item: The capture.
            extension: Extension of the scenes.
            cameras: Whether its cameras are wanted too.
        """
        row = self.rows.get(_key(item))
        if row is None or "error" in row:
            return row is not None and not self.retry
        # The folder may have been moved since.
        scene = self.path.parent / _scene_name(row)
        files = [scene, cameras_beside(scene, extension)] if cameras else [scene]
        return all(file.is_file() for file in files)

    def error(self, item: Item) -> str | None:
        """Return why a capture failed in its last attempt, if it did."""
        error = self.rows.get(_key(item), {}).get("error")
        return None if error is None else str(error)

    def add(self, item: Item, row: dict[str, Any]) -> None:
        """Add what has become of a capture; its last line counts."""
        row = {"capture": _key(item), **row}
        self.rows[_key(item)] = row
        if "output" in row:
            self.owners[_scene_name(row)] = _key(item)
        add_row(self.path, row)


def cameras_beside(scene: Path, extension: str) -> Path:
    """Return the file for the cameras of a scene of a list."""
    return scene.with_name(f"{scene.name.removesuffix(extension)}.cameras.json")


def _scene_name(row: dict[str, Any]) -> str:
    """Return the file name of the scene of a row: the folder may have been moved since."""
    return Path(str(row.get("output"))).name


def _key(item: Item) -> str:
    return os.path.realpath(item.capture)
