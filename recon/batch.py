"""Lists of captures to reconstruct, and what has become of each."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.errors import InputError
from recon.files import check_output
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot read the list {path}: {reason}; expected a text file with the path of a "
            "capture a line, or .jsonl"
        ) from None
    found: list[tuple[Path, str | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            entry: Any = _parsed(line) if path.suffix == ".jsonl" else {"path": line}
            if not _is_entry(entry):
                raise InputError(
                    f'{path}: line {number}: expected {{"path": "...", "name": "..."}}, the name a '
                    "file name or left out"
                )
            found.append((path.parent / entry["path"], entry.get("name")))
    if not found:
        raise InputError(f"{path} lists no captures; expected the path of a capture a line")
    _check_unique(path, "capture", [str(capture.resolve()) for capture, _ in found])
    names = [name or free for (_, name), free in zip(found, _names(found), strict=True)]
    _check_unique(path, "scene", names)
    return [Item(capture, name) for (capture, _), name in zip(found, names, strict=True)]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return False
    name = entry.get("name")
    return name is None or (isinstance(name, str) and Path(name).name == name != "")


def _check_unique(path: Path, what: str, names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path} lists the {what} {name} {count} times; list it once")


def _names(found: Sequence[tuple[Path, str | None]]) -> list[str]:
    """Return names by the last parts of the paths, as many as tell them apart."""
    parts = [_parts(capture.absolute()) for capture, _ in found]
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
    name = capture.stem if capture.is_file() else capture.name
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
        self.rows = {str(row.get("capture")): row for row in read_rows(self.path)}
        self.retry = retry

    def check_names(self, items: Sequence[Item], extension: str) -> None:
        """Check that no scene of an earlier list would be replaced by that of another capture.

        Raises:
            InputError: One would; the message names both captures.
        """
        rows = self.rows.items()
        owners = {Path(str(row["output"])).name: key for key, row in rows if "output" in row}
        for item in items:
            owner = owners.get(f"{item.name}{extension}", _key(item))
            if owner != _key(item) and _key(item) not in self.rows:
                raise InputError(
                    f"{self.path.parent} has a scene {item.name} of {owner} already; give "
                    f"{item.capture} another name in a .jsonl list, or choose a new folder"
                )

    def is_done(self, item: Item) -> bool:
        """Return whether a capture needs no further attempt: its scene exists, or it failed."""
        row = self.rows.get(_key(item))
        if row is None or "error" in row:
            return row is not None and not self.retry
        return Path(str(row.get("output"))).is_file()

    def error(self, item: Item) -> str | None:
        """Return why a capture failed in its last attempt, if it did."""
        error = self.rows.get(_key(item), {}).get("error")
        return None if error is None else str(error)

    def add(self, item: Item, row: dict[str, Any]) -> None:
        """Add what has become of a capture; its last line counts."""
        row = {"capture": _key(item), **row}
        self.rows[_key(item)] = row
        add_row(self.path, row)


def _key(item: Item) -> str:
    return str(item.capture.resolve())
