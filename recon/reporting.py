"""Output of the commands: progress on standard error, results on standard output."""

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from recon.errors import ConfigError, InputError, ReconWarning

# Value of a `--json` without a file.
STDOUT = Path("-")
# Warnings of the command that runs, in the order in which they came.
_told: list[str] = []

if TYPE_CHECKING:
    from recon.types import StageProgress


def say(text: str) -> None:
    """Print a line of the result on standard output, if it is open.

    Raises:
        BrokenPipeError: Nobody reads it any more.
        InputError: It cannot be written.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise InputError(f"cannot write to standard output: {error.strerror}") from None


def note(text: str) -> None:
    """Print a remark on standard error, if anybody can read it: no reason to stop otherwise."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"recon: {text}\n")
            sys.stderr.flush()


def discard_output() -> None:
    """Discard what remains for standard output, so that Python does not try again at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def telling_warnings() -> Iterator[None]:
    """Print each ReconWarning once, as one line on standard error, and keep it for `--json`."""
    _told.clear()
    of_others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if not issubclass(category, ReconWarning):
            of_others(message, category, filename, lineno, file, line)
        elif text not in _told:
            _told.append(text)
            note(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", ReconWarning)
        warnings.showwarning = show
        yield


def prints_json(output: Path | None) -> bool:
    """Return whether `--json` puts its object on standard output, where nothing else may be."""
    return output == STDOUT


def check_json(output: Path | None, is_result: bool = False) -> None:
    """Check where a command prints its result or its JSON object, before the work begins.

    Args:
        output: The file of `--json`, STDOUT, or None without it.
        is_result: Whether standard output is needed without `--json FILE`.

    Raises:
        InputError: The file is not called .json or cannot be written, or standard output, which
            is needed, is closed.
    """
    from recon.files import check_output

    if sys.stdout is None and (output == STDOUT or (is_result and output is None)):
        raise InputError("standard output is closed; open it, or pass --json FILE")
    if output is not None and output != STDOUT:
        check_output(output)
        check_json_name("--json", output)


def check_json_name(flag: str, output: Path) -> None:
    """Raise InputError for a file to write that is not called .json, such as a scene."""
    if output.suffix.lower() != ".json":
        raise InputError(f"{flag} writes a .json file, got {output}; choose a name ending in .json")


def write_json(values: dict[str, Any], output: Path) -> None:
    """Print one JSON object on standard output, or write it to a file; with all warnings so far."""
    from recon.files import atomic_output

    values = values | {"warnings": list(_told)}
    if output == STDOUT:
        say(json.dumps(values))
        return
    with atomic_output(output) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")


def report(line: str, values: dict[str, Any], output: Path | None, quiet: bool) -> None:
    """Print the closing line of a command, or its JSON object in place of the line."""
    if output is not None:
        write_json(values, output)
    if not quiet and output != STDOUT:
        say(line)


@contextmanager
def progress_reporter(quiet: bool) -> "Iterator[StageProgress]":
    """Yield a function of (stage, fraction): progress bars on a terminal, else a line per stage."""
    if quiet:
        yield lambda stage, fraction: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def show(stage: str, fraction: float) -> None:
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage, total=1.0)
                bar.update(tasks[stage], completed=fraction)

            yield show
    else:
        seen: set[str] = set()

        def note_once(stage: str, fraction: float) -> None:
            if stage not in seen:
                seen.add(stage)
                note(stage)

        yield note_once


def parse_size(text: str) -> tuple[int, int]:
    """Parse a text such as "640x480" into (width, height)."""
    parts = text.lower().split("x")
    if len(parts) == 2 and all(p.isdecimal() and 0 < int(p) <= 16384 for p in parts):
        return int(parts[0]), int(parts[1])
    raise ConfigError(f"size must be WIDTHxHEIGHT in pixels, such as 640x480, got {text!r}", "size")


def megabytes(path: Path) -> float:
    """Return the size of a file in MB (10^6 bytes)."""
    return path.stat().st_size / 1e6


def shown_size(size: float) -> str:
    """Return a size (MB) to print: "23 kB", "1.25 MB", "38.6 MB"."""
    if size < 1:
        return f"{1000 * size:.0f} kB"
    return f"{size:.2f} MB" if size < 10 else f"{size:.1f} MB"
