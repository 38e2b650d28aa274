"""Processor cores that this process may use."""

import os


def allowed_cores() -> int:
    """Return the number of cores that this process may use, as `taskset` or a container sets it."""
    # Not on every system.
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, (os.cpu_count() or 1) if affinity is None else len(affinity(0)))
