"""Limits that a container or a job scheduler sets: those of the process's control group (Linux).

The files are those of cgroup v2, which has one tree of groups, and of v1, which has one for each
controller (the kernel's admin-guide, cgroup-v2 and cgroup-v1). The limits of all groups above a
group hold as well.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
# Lines ID:CONTROLLERS:PATH; those of v2 have no controllers.
MEMBERSHIP = Path("/proc/self/cgroup")


def core_limit() -> float:
    """Return how many cores may be used at a time, as `docker --cpus` sets it; infinite without."""
    limits = [math.inf]
    for folder in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError, IndexError):
            if (folder / "cpu.max").is_file():
                # "max 100000" without a limit, which is no number.
                quota, period = map(float, _text(folder / "cpu.max").split()[:2])
            else:
                quota = float(_text(folder / "cpu.cfs_quota_us"))
                period = float(_text(folder / "cpu.cfs_period_us"))
            if quota > 0:
                limits.append(quota / period)
    return min(limits)


def free_memory() -> float:
    """Return how much more memory may be used (bytes); infinite without a limit."""
    free = [math.inf]
    for folder in _groups("memory"):
        with contextlib.suppress(OSError, ValueError):
            is_v2 = (folder / "memory.max").is_file()
            limit, used = (
                ("memory.max", "memory.current")
                if is_v2
                else ("memory.limit_in_bytes", "memory.usage_in_bytes")
            )
            left = float(_text(folder / limit)) - float(_text(folder / used))
            free.append(left + _cached(folder, "" if is_v2 else "total_"))
    return min(free)


def _cached(folder: Path, prefix: str) -> float:
    """Return the bytes of files that a group has in memory, which the kernel gives up if need be.

    What is in use counts them, and MemAvailable of the whole system does not.
    """
    names = {f"{prefix}active_file", f"{prefix}inactive_file"}
    with contextlib.suppress(OSError):
        rows = [line.split() for line in _text(folder / "memory.stat").splitlines()]
        return sum(float(row[1]) for row in rows if len(row) == 2 and row[0] in names)
    return 0.0


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the process's group and of those above it, as far as they are shown.

    A container may show its own group as the root, and its path as the system sees it.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in _text(MEMBERSHIP).splitlines():
            controllers, path = line.partition(":")[2].split(":", 1)
            # The folder of a v1 controller is called so, or links to one of several controllers.
            if controllers and controller not in controllers.split(","):
                continue
            top = ROOT / controller if controllers else ROOT
            parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
            for depth in range(len(parts), -1, -1):
                folder = top.joinpath(*parts[:depth])
                if folder.is_dir():
                    yield folder


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii")
