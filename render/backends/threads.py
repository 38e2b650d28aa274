"""Threads of the CPU kernel, which are those of torch unless torch is kept on one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_count: ContextVar[int | None] = ContextVar("threads of the CPU kernel", default=None)


def kernel_threads() -> int:
    """Return the number of threads that a call of the CPU kernel may use."""
    return _count.get() or torch.get_num_threads()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Run torch's own operations on one thread, and the kernel on as many as torch had.

    OpenMP's threads keep spinning after a parallel operation, on the cores that the kernel needs
    next: small operations between its calls make both slower (docs/experiments/performance.md).
    """
    threads = torch.get_num_threads()
    token = _count.set(kernel_threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _count.reset(token)
