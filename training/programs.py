"""What the programs that start as `python -m training. ...` have in common."""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recon.errors import InputError, ReconError
from recon.files import atomic_output, check_output
from recon.reporting import discard_output, note, telling_warnings

Main = Callable[[Sequence[str] | None], None]
"""Takes the words of the command line; those of the process if None."""


def program(main: Main) -> "Callable[..., None]":
    """Let a program end with one line and code 2 on an error that a user can correct.

    Raises:
        SystemExit: 2 for such an error, 0 when the reader of the output went away.
    """

    @functools.wraps(main)
    def run(words: Sequence[str] | None = None) -> None:
        try:
            with telling_warnings():
                main(words)
        except BrokenPipeError:
            discard_output()
            raise SystemExit(0) from None
        except ReconError as error:
            note(f"error: {error}")
            raise SystemExit(2) from None

    return run


def check_outputs(*paths: Path | None) -> None:
    """Check before the work begins that files can be written; None stands for one not wanted.

    Raises:
        InputError: One of them cannot.
    """
    for path in paths:
        if path is not None:
            check_output(path)


def make_folder(path: Path | None) -> None:
    """Make a folder for outputs before the work begins, unless it exists; None makes none.

    Raises:
        InputError: It cannot be made, or nothing can be written there.
    """
    if path is not None:
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder {path}: {error.strerror}; choose another"
            ) from None
        check_output(path / "output")


def output_folder(description: str | None, words: Sequence[str] | None) -> Path:
    """Read a command line that names one folder for outputs, and make it.

    Raises:
        InputError: See `make_folder`.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder: Path = parser.parse_args(words).folder
    make_folder(folder)
    return folder


def write_numbers(numbers: Any, path: Path | None) -> None:
    """Write measurements to a JSON file, which appears complete or not at all; None writes none."""
    if path is not None:
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; bars in cells become slashes."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
