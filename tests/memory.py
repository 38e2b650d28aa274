"""Peak memory of a function, in a process of its own: in the tests' process other tests set it."""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

LINUX_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """Return the most memory that this process has had so far."""
    if LINUX_STATUS.exists():
        # Not ru_maxrss: on Linux a process inherits that of its parent.
        lines = LINUX_STATUS.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of a test module in a new process; its errors are raised here."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()
