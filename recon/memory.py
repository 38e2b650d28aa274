"""Memory of the process: the allocator's settings, and errors that say there is too little."""

import contextlib
import errno
import functools
import math
import os
import sys
from pathlib import Path

from recon.control_groups import free_memory
from recon.cores import allowed_cores

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
# Address space that a library such as Embree takes when it is used first: by itself, and for each
# thread (one a core that it may use), which has a stack and an arena of glibc's malloc.
LIBRARY_BYTES, THREAD_BYTES = 150e6, 80e6
# Words of errors that mean too little memory: torch, the system, C++, OpenCV, Python's threads,
# oneDNN.
TOO_LITTLE_MEMORY = (
    "DefaultCPUAllocator", "annot allocate memory", "bad_alloc", "Insufficient memory",
    "failed to map segment", "can't start new thread", "could not create a primitive",
)  # fmt: skip


def tune_allocator() -> None:
    """Let glibc reuse large freed blocks instead of returning each to the system.

    Tensors of the same few sizes are allocated thousands of times; without this a quarter of the
    run time goes into page faults (docs/experiments/performance.md). The setting holds for the
    whole process and keeps its peak memory allocated, so `import recon` leaves it alone: the
    command line calls it, and a program that reconstructs on the CPU should call it once, before
    its first tensor. Does nothing with another C library.
    """
    # Here, since `import recon` must be quick.
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def available_memory() -> float | None:
    """Return the memory that this process may use, with what it has (bytes); None if unknown.

    That is what the system has free, as far as the limits of the process (RLIMIT_AS) and of its
    control group, and of those above it, permit.
    """
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
        _, resident = _process_bytes()
    except OSError:
        return None
    free = [1024.0 * int(line.split()[1]) for line in meminfo.splitlines() if "MemAvail" in line]
    return max(min(*free, _free_addresses(), free_memory()), 0.0) + resident


@functools.cache
def check_addresses(library: str) -> None:
    """Check that a library that crashes without memory, as Embree does, can get what it needs.

    Call it before each use: it checks before the first one, and afterwards the library has it.

    Raises:
        MemoryError: The limit of the process (RLIMIT_AS) leaves less.
    """
    needed = LIBRARY_BYTES + THREAD_BYTES * allowed_cores()
    with contextlib.suppress(OSError):
        if (free := _free_addresses()) < needed:
            raise MemoryError(
                f"{library} needs {needed / 1e6:.0f} MB, and the limit of the process leaves "
                f"{max(free, 0) / 1e6:.0f} MB"
            )


def _free_addresses() -> float:
    """Return the address space that the limit of the process leaves (bytes); infinite without."""
    try:
        import resource
    except ImportError:
        return math.inf
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if soft == resource.RLIM_INFINITY else soft - _process_bytes()[0]


def _process_bytes() -> tuple[float, float]:
    """Return the address space and the resident memory of this process (Linux)."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    size = os.sysconf("SC_PAGESIZE")
    return size * float(pages[0]), size * float(pages[1])


def out_of_memory_text(error: BaseException) -> str | None:
    """Return a message for an error that means too little memory, else None.

    Does not import torch: if it is not loaded, it did not raise the error.
    """
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)
    known = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    # Libraries raise errors of their own kinds for CPU memory, with words of the system in them.
    if not (known or on_gpu or any(words in str(error) for words in TOO_LITTLE_MEMORY)):
        cause = error.__cause__ or error.__context__
        return None if cause is None else out_of_memory_text(cause)
    detail = " ".join(str(error).partition("\n")[0].split())
    return (
        f"not enough {'GPU ' * on_gpu}memory{f' ({detail})' if detail else ''}; "
        "close other programs, or use fewer photos or a lower resolution"
    )
