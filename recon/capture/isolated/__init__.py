"""Scripts that run in separate processes.

Importing torch before pycolmap crashes (colmap/colmap#3477), so everything that needs pycolmap is a
stand-alone script here, which imports nothing from recon. A separate process can also be stopped
when it takes too long, and frees all its memory.

No file here may have the name of a module of the standard library: Python puts the folder of a
script first on its import path.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

from recon.files import temporary_folder
from recon.interrupts import undone

SCRIPTS = Path(__file__).parent


def run_script(name: str, arguments: list[str], limit_s: float) -> str | None:
    """Run a script of this folder.

    Returns:
        None after success, otherwise the last line that the script wrote to stderr.

    Raises:
        subprocess.TimeoutExpired: The script took longer than `limit_s` seconds.
    """
    return run_scripts([(name, arguments)], limit_s)


def run_scripts(calls: Sequence[tuple[str, list[str]]], limit_s: float) -> str | None:
    """Run scripts of this folder at the same time; none is left running, whatever happens.

    Args:
        calls: Name and arguments of each.
        limit_s: Time limit for all of them together.

    Returns:
        None after success of all, otherwise the last line that a script wrote to stderr.

    Raises:
        subprocess.TimeoutExpired: They took longer than `limit_s` seconds.
    """
    end, running = time.monotonic() + limit_s, []
    with ExitStack() as stack:
        # COLMAP writes its log there, even if nobody wants it.
        environment = os.environ | {"TMPDIR": str(stack.enter_context(temporary_folder()))}
        for name, arguments in calls:
            # A file, since a pipe that nobody reads would stop the script.
            errors = stack.enter_context(TemporaryFile("w+", errors="replace"))
            process = subprocess.Popen(
                [sys.executable, str(SCRIPTS / name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
            )
            stack.enter_context(undone(partial(_stop, process)))
            running.append((process, errors))
        for process, errors in running:
            process.wait(max(end - time.monotonic(), 0.0))
            if process.returncode != 0:
                errors.seek(0)
                lines = errors.read().strip().splitlines()
                return (lines or [f"exit code {process.returncode}"])[-1]
    return None


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
