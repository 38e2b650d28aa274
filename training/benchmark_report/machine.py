"""The machine of a benchmark: how much of it other programs use, and what a command needs of it."""

import json
import os
import subprocess
import sys
from typing import Any

from recon.errors import InputError

# Number of cores that others may keep busy on a machine that is called quiet.
QUIET_CORES = 0.1
# Seconds over which the work of others is measured.
WATCHED_S = 1.0
# Starts a command and measures it. It runs in a small process of its own: on Linux the peak memory
# of a process is at least that of the one that started it.
STARTER = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "rc": done.returncode, "out": done.stdout, "err": done.stderr, "seconds": seconds,
    "processor_seconds": used.ru_utime + used.ru_stime,
    "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
}))
"""


def cores_of_others() -> float | None:
    """Return how many of the cores that this process may use other processes keep busy.

    Call it while this process does nothing. None if psutil is not installed.
    """
    try:
        import psutil
    except ImportError:
        return None
    busy = psutil.cpu_percent(WATCHED_S, percpu=True)
    # Not on every system.
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = range(len(busy)) if affinity is None else affinity(0)
    return sum(float(busy[core]) for core in allowed if core < len(busy)) / 100


def run_measured(words: list[str]) -> dict[str, Any]:
    """Run a command; return its output, time, processor time (s) and peak memory (bytes).

    Raises:
        InputError: The command failed.
    """
    starter = [sys.executable, "-c", STARTER, *words]
    done = subprocess.run(starter, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    status, errors = found.pop("rc"), found.pop("err")
    if status != 0:
        lines = errors.strip().splitlines() or ["it printed nothing"]
        raise InputError(f"the command ended with {status}: {lines[-1]}")
    return found
