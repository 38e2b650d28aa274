"""Scripts of the folder `isolated`, each in a process of its own: pycolmap beside torch corrupted
the heap in trials."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "isolated"


def run_script(name: str, arguments: list[str], limit_s: float) -> str | None:
    """None when it ended well, else the last line of its complaints. subprocess.TimeoutExpired
    after `limit_s` seconds."""
    command = [sys.executable, str(FOLDER / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
