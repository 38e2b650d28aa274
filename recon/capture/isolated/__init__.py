"""Scripts that run in separate processes.

Importing torch before pycolmap crashes (colmap/colmap#3477), so everything that needs pycolmap is a
stand-alone script here, which imports nothing from recon. A separate process can also be stopped
when it takes too long, and frees all its memory.

No file here may have the name of a module of the standard library: Python puts the folder of a
script first on its import path.
"""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent


def run_script(name: str, arguments: list[str], limit_s: float) -> str | None:
    """Run a script of this folder.

    Returns:
        None after success, otherwise the last line that the script wrote to stderr.

    Raises:
        subprocess.TimeoutExpired: The script took longer than `limit_s` seconds.
    """
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
