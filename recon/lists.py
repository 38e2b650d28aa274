"""Lists of files to work on: text files with a path a line, or a JSON object a line (.jsonl)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.errors import InputError, shortened


@dataclass(frozen=True)
class Entry:
    """A line of a list."""

    line: int
    """From 1."""
    name: str
    """Path as it is there."""
    path: Path
    """Absolute path; those in the list are relative to its folder."""
    facts: dict[str, Any]
    """What else an object says."""

    @property
    def key(self) -> str:
        """The path without symbolic links; two entries of one file have the same."""
        return os.path.realpath(self.path)


def read_entries(path: Path) -> list[Entry]:
    """Return the entries of a list; empty lines and those that begin with # are left out.

    Raises:
        InputError: The list cannot be read or names something twice, or a line is no path.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot read the list {path}: {reason}; expected a text file with a path a line, or "
            ".jsonl"
        ) from None
    found: list[Entry] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        entry = _entry(path, number, line)
        if (before := lines.setdefault(entry.key, number)) != number:
            raise InputError(
                f"{path} lists {entry.name} in lines {before} and {number}; list it once"
            )
        found.append(entry)
    return found


def _entry(path: Path, number: int, line: str) -> Entry:
    values: Any = {"path": line}
    if path.suffix == ".jsonl":
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
    name = values.get("path") if isinstance(values, dict) else None
    if not isinstance(name, str) or not is_file_name(name):
        expected = '{"path": "..."}' if path.suffix == ".jsonl" else "a path"
        raise InputError(f"{path}: line {number}: expected {expected}, found {shortened(line)}")
    facts = {str(key): value for key, value in values.items() if key != "path"}
    return Entry(number, name, (path.parent / name).absolute(), facts)


def is_file_name(value: Any) -> bool:
    """Return whether a value is a text that files or folders can be called."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value) and value != ""
    except UnicodeEncodeError:
        return False
