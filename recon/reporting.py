"""Output of the commands: progress on standard error, results on standard output."""

import contextlib
import json
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from recon.errors import ConfigError, InputError, ReconWarning
from recon.interrupts import note as note

# Fields that have a flag of another name; all others are spelt like the field.
FIELD_FLAGS = {
    "source": "--camera-source",
    "cameras": "--camera-source",
    "fraction": "--prune",
    "frames": "--video-frames",
    "max_loss_db": "--max-loss",
    "target_mb": "--target-size",
    "keep_fraction": "--keep",
    "memory_gb": "--memory",
    "seconds": "--time",
}
# Value of a `--json` without a file.
STDOUT = Path("-")
# Time between lines of progress where there is no terminal (s).
LINE_EVERY_S = 10.0
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
        # Names of files may have characters that are not in the encoding of the output.
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise InputError(f"cannot write to standard output: {error.strerror}") from None


def discard_output() -> None:
    """Discard what remains for standard output, so that Python does not try again at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def in_flags(text: str, fields: Iterable[str]) -> str:
    """Return a message with flags for names of settings: `max_views` -> `--max-views`.

    Args:
        text: The message of an error or a warning.
        fields: The settings that it names; others are left as they are.
    """
    for field in fields:
        flag = FIELD_FLAGS.get(field, "--" + field.rpartition(".")[2].replace("_", "-"))
        # Not inside of a path or of a longer word; a field named like a plain word counts only
        # where it stands first or has a value.
        name = rf"(?<![\w/.-]){re.escape(field)}(?![\w/-])"
        if field.isalpha():
            name = rf"(?:^{field}\b|{name}(?==))"
        text = re.sub(rf"{name}=True\b", flag, text)
        text = re.sub(rf"{name}=('?)([^\s']+)\1", rf"{flag} \2", text)
        text = re.sub(name, flag, text)
    return text


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
        if not isinstance(message, ReconWarning):
            of_others(message, category, filename, lineno, file, line)
            return
        text = in_flags(str(message), message.fields)
        if text not in _told:
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
    """Yield a function of (stage, fraction): progress bars on a terminal, else lines.

    There is a line for each stage when it begins, and one every LINE_EVERY_S with the time left.
    """
    if quiet:
        yield lambda stage, fraction: None
    elif sys.stderr is not None and sys.stderr.isatty():
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
        lines = ProgressLines()
        ended = threading.Event()
        threading.Thread(target=lines.repeat, args=(ended,), daemon=True).start()
        try:
            yield lines
        finally:
            ended.set()


class ProgressLines:
    """Progress as lines for a log file."""

    def __init__(self) -> None:
        self.stages: set[str] = set()
        self.stage = ""
        self.started = self.fraction = self.first = 0.0

    def __call__(self, stage: str, fraction: float) -> None:
        """Take the completed fraction of a stage; print a line if it is new."""
        if stage != self.stage:
            self.started, self.first = time.monotonic(), fraction
        self.stage, self.fraction = stage, fraction
        if stage not in self.stages:
            self.stages.add(stage)
            note(stage)

    def repeat(self, ended: threading.Event) -> None:
        """Print a line every LINE_EVERY_S until the end, even if the stage does not report."""
        while not ended.wait(LINE_EVERY_S):
            if self.stage and self.fraction < 1:
                note(self.line(time.monotonic() - self.started))

    def line(self, elapsed: float) -> str:
        """Return how far the stage is and the time left, or else the time so far.

        Args:
            elapsed: Time since the stage began (s).
        """
        # Some stages report once, how many of several they are.
        done = self.fraction - self.first
        if done <= 0:
            return f"{self.stage}: {shown_time(float(round(elapsed)), exact=True)} so far"
        left = elapsed * (1 - self.fraction) / done
        return f"{self.stage}: {100 * self.fraction:.0f} %, about {shown_time(left)} left"


def shown_time(seconds: float, exact: bool = False) -> str:
    """Return a time to print: "40 s", "3 min", "1.5 h" or, if exact, "0.8 s", "3 min 10 s"."""
    if exact and seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if exact and seconds < 5400:
        return f"{seconds // 60:.0f} min {seconds % 60 // 1:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
