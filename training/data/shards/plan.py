"""Folders of shards that are written in several calls: what they hold, and what is missing."""

import json
import shutil
from pathlib import Path
from typing import Any

from recon.errors import InputError
from recon.files import TEMPORARY_PREFIX, atomic_output, check_output

PLAN = "plan.json"


def begin_shards(folder: Path, facts: dict[str, Any]) -> None:
    """Create a folder of shards, or go on with one that was begun in the same way.

    Files that a killed process was about to write are removed.

    Raises:
        InputError: The folder was begun with other facts or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write {folder}: it is a file; expected the name of a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}") from None
    check_output(folder / PLAN)
    known = json.loads(json.dumps(facts))
    if (folder / PLAN).is_file():
        _check_same(folder, known)
    elif any(folder.iterdir()):
        raise InputError(
            f"cannot write shards to {folder}: it contains other files; choose a new folder"
        )
    else:
        with atomic_output(folder / PLAN) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed process was about to write into a folder."""
    for left in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def _check_same(folder: Path, facts: dict[str, Any]) -> None:
    try:
        then = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        changed = [key for key in facts if then.get(key) != facts[key]]
    except (OSError, ValueError, AttributeError):
        raise InputError(f"cannot read {folder / PLAN}; choose a new folder") from None
    if changed:
        key = changed[0]
        raise InputError(
            f"{folder} was begun with {key} {_short(then.get(key))}, now it is "
            f"{_short(facts[key])}; choose a new folder, or the same options"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
