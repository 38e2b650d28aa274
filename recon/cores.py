"""Processor cores that this process may use."""

import math
import os

from recon.control_groups import core_limit


def allowed_cores() -> int:
    """Return the number of cores that this process may use, as `taskset` or a container sets it.

    A limit of processor time, such as `docker --cpus 1.5`, counts as that many cores, rounded up.
    """
    # Not on every system.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    limit = core_limit()
    return max(1, cores if limit == math.inf else min(cores, math.ceil(limit)))
