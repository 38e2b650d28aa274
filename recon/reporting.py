"""How commands talk: progress on standard error, results on standard output."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import ConfigError

if TYPE_CHECKING:
    from recon.types import StageProgress


def say(text: str) -> None:
    """A line of the result, on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line on the way, on standard error."""
    sys.stderr.write(f"recon: {text}\n")
    sys.stderr.flush()


def say_json(values: dict[str, Any]) -> None:
    """The one JSON object of --json."""
    say(json.dumps(values))


@contextmanager
def progress_reporter(quiet: bool) -> "Iterator[StageProgress]":
    """A function to tell (stage, fraction): a bar on a terminal, else a line a stage."""
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
    """(width, height) of "640x480"; ReconError otherwise."""
    parts = text.lower().split("x")
    if len(parts) == 2 and all(p.isdigit() and 0 < int(p) <= 16384 for p in parts):
        return int(parts[0]), int(parts[1])
    raise ConfigError(f"size must be WIDTHxHEIGHT in pixels, such as 640x480, got {text!r}", "size")


def megabytes(path: Path) -> float:
    """Size of a file (MB, 10^6 bytes)."""
    return path.stat().st_size / 1e6


def shown_size(path: Path) -> str:
    """The same for people: "23 kB", "1.25 MB", "38.6 MB"."""
    size = megabytes(path)
    if size < 1:
        return f"{1000 * size:.0f} kB"
    return f"{size:.2f} MB" if size < 10 else f"{size:.1f} MB"
