"""Folders that are written in several calls: how they were begun, and lists that grow."""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from recon.errors import InputError, shortened
from recon.files import TEMPORARY_PREFIX, atomic_output, check_output, create_folder

PLAN = "plan.json"
REMEDY = "choose a new folder, or the same options"


def begin_folder(
    folder: Path,
    facts: dict[str, Any],
    remedy: str = REMEDY,
    names: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Create a folder of results, or go on with one that was begun in the same way.

    Files that a killed process was about to write are removed.

    Args:
        folder: The folder.
        facts: What the results depend on, JSON.
        remedy: What to do if the folder was begun with other facts.
        names: How a message calls facts, such as `--side`, if not by their keys.

    Raises:
        InputError: The folder was begun with other facts or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write {folder}: it is a file; expected the name of a folder")
    create_folder(folder)
    check_output(folder / PLAN)
    known = json.loads(json.dumps(facts))
    if (folder / PLAN).is_file():
        _check_same(folder, known, remedy, names)
    elif any(folder.iterdir()):
        raise InputError(f"cannot write to {folder}: it contains other files; choose a new folder")
    else:
        with atomic_output(folder / PLAN) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed process was about to write into a folder."""
    for left in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a list of JSON objects, one a line; none if there is no file.

    A line that a killed process left unfinished is removed. A last line that only lacks its end,
    as editors save files, is kept.

    Raises:
        InputError: The file has other contents, or cannot be read or written.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        rows, last = [_row(line) for line in whole.splitlines()], text[len(whole) :]
        final = _row(last)
        if None in rows or (final is None and last.strip() and not last.startswith(b"{")):
            raise InputError(f"cannot read {path}: expected a JSON object a line; remove it")
        if final is not None:
            rows.append(final)
            with path.open("ab") as file:
                file.write(b"\n")
        elif last:
            os.truncate(path, len(whole))
    except OSError as error:
        raise InputError(
            f"cannot read and write {path}: {error.strerror or error}; change its permissions, or "
            "choose a new folder"
        ) from error
    return [row for row in rows if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line; None if it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Add a JSON object to a list as a line, completely or not at all.

    Raises:
        InputError: The list cannot be written.
    """
    line = f"{json.dumps(row)}\n".encode()
    try:
        with path.open("ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            if file.write(line) < len(line):  # the disk is nearly full
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _check_same(folder: Path, facts: dict[str, Any], remedy: str, names: Mapping[str, str]) -> None:
    try:
        then = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        changed = [key for key in facts if then.get(key) != facts[key]]
    except (OSError, ValueError, AttributeError, RecursionError):
        raise InputError(f"cannot read {folder / PLAN}; choose a new folder") from None
    if changed:
        key = changed[0]
        name, before, now = names.get(key, key), then.get(key), facts[key]
        begun = (
            f"without {name}"
            if before is None
            else f"with {name} {shortened(before, quoted=False)}"
        )
        found = "without" if now is None else shortened(now, quoted=False)
        raise InputError(f"{folder} was begun {begun}, now it is {found}; {remedy}")
