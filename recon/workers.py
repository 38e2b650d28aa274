"""Run one function on many inputs: in processes that may end at any time, or on a Ray cluster."""

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from recon.errors import InputError, MissingDependency
from recon.interrupts import GRACE_S, stoppable


@dataclass(frozen=True)
class Halt:
    """The reason why no other job can be done either, such as a full disk."""

    reason: str


Result = bytes | str
"""Bytes, or the reason why there are none."""
Function = Callable[..., Result | Halt]
Job = tuple[int, tuple[Any, ...]]
"""Index and arguments."""
Results: TypeAlias = Iterator[tuple[int, Result]]
Compute: TypeAlias = Callable[[Function, Sequence[Job]], Results]
ENDED = "the process ended (its memory, or a fault of a library)"
NOT_STARTED = Halt(
    "a process to compute in ended while it was started: the memory may be too small; use fewer "
    "processes, and call again to go on"
)
INTERVAL_S, CONNECT_S = 1.0, 10.0
# A process has this time to end by itself: more than `recon.interrupts` gives it.
STOP_S = GRACE_S + 0.5


class _Process:
    """A process that runs one job after the other."""

    def __init__(self, function: Function) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, function), daemon=True)
        try:
            self.process.start()
        except OSError as error:
            raise InputError(f"cannot start a process: {error.strerror or error}") from error
        other.close()
        self.usable, self.index, self.since = True, -1, math.inf  # inf: about to start

    def begin(self, job: Job) -> None:
        """Send a job."""
        self.index = job[0]
        if self.since < math.inf:
            self.since = time.monotonic()
        with suppress(OSError):  # an ended process is found by its result
            self.pipe.send(job[1])

    def result(self, limit_s: float) -> Result | Halt | None:
        """Return the job's result, or why there is none; None as long as it runs."""
        if self.pipe.poll():
            try:
                result: Result | Halt | None = self.pipe.recv()
            except (EOFError, OSError):
                self.usable = False
                return ENDED if self.since < math.inf else NOT_STARTED
            if result is not None:
                return result
            self.since = time.monotonic()
        if time.monotonic() - self.since > limit_s:
            self.usable = False
            return f"not done after {limit_s:g} s"
        return None

    def stop(self) -> None:
        """Ask the process to end, which removes its temporary files."""
        self.process.terminate()

    def kill(self) -> None:
        """End the process, whatever it does, if it does not by itself."""
        self.stop()
        self.process.join(STOP_S)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, function: Function) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # left to the process that started this one
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Errors of the pipe: that process ended.
    with stoppable(is_process=True, quiet=True), suppress(EOFError, OSError):
        pipe.send(None)  # the time limit counts from here
        while True:
            pipe.send(_reasoned(function, *pipe.recv()))


def _end_with_parent() -> None:
    """End this process, as SIGTERM does, when the one that started it was killed.

    Otherwise it would compute its job beside a call that goes on with the same.
    """
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _reasoned(function: Function, *arguments: Any) -> Result | Halt:
    """Call a function; an exception becomes the reason why there is no result."""
    try:
        return function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def computing(processes: int, limit_s: float, ray: str | None) -> Iterator[Compute]:
    """Yield a function of (function, jobs) that yields results as they come.

    Args:
        processes: Number of jobs at a time.
        limit_s: Time after which a job is given up (s).
        ray: Address of a Ray cluster, which is connected at once; None uses local processes.

    Raises:
        InputError: The cluster cannot be reached, or no further job can be done (`Halt`).
        MissingDependency: ray is not installed.
    """
    if ray is None:
        yield lambda function, jobs: local_results(function, jobs, processes, limit_s)
        return
    with _connected(processes, ray):
        yield lambda function, jobs: ray_results(function, jobs, processes, limit_s)


def local_results(
    function: Function, jobs: Sequence[Job], processes: int, limit_s: float
) -> Results:
    """Yield results as they come; a job that ends its process, or takes too long, has a reason.

    Raises:
        InputError: No further job can be done.
    """
    left = iter(jobs)
    running = [_Process(function) for _ in range(min(processes, len(jobs)))]
    try:
        for each, job in zip(running, left, strict=False):
            each.begin(job)
        while running:
            wait([each.pipe for each in running], INTERVAL_S)
            for each in list(running):
                result = each.result(limit_s)
                if result is None:
                    continue
                index, next_job = each.index, next(left, None)
                if next_job is None or not each.usable:
                    running.remove(each)
                    each.kill()
                if next_job is not None:
                    if not each.usable:
                        each = _Process(function)
                        running.append(each)
                    each.begin(next_job)
                yield index, _unless_halted(result)
    finally:
        for each in running:
            each.stop()
        for each in running:
            each.kill()


def _unless_halted(result: Result | Halt) -> Result:
    if isinstance(result, Halt):
        raise InputError(result.reason)
    return result


def check_ray(address: str) -> None:
    """Check that a Ray cluster can be used; Ray itself would wait for minutes.

    Raises:
        InputError: Nothing answers at the address.
        MissingDependency: ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f"ray: {error}; pip install 'reconsplat[ray]'", "ray") from None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), CONNECT_S).close()
        except OSError as error:
            raise InputError(
                f"ray={address}: {error.strerror or error}; start a cluster with ray start --head, "
                "or pass its address",
                "ray",
            ) from None


@contextmanager
def _connected(processes: int, address: str) -> Iterator[None]:
    """Connect to a Ray cluster, and leave it at the end.

    Raises:
        InputError: The cluster cannot be reached.
        MissingDependency: ray is not installed.
    """
    check_ray(address)
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address == "local":
            ray.init(address, num_cpus=processes, include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except Exception as error:  # Ray raises Exception itself, for a cluster that does not start
        raise InputError(
            f"ray={address}: {error}; expected local, auto or the address of a running cluster",
            "ray",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def ray_results(function: Function, jobs: Sequence[Job], processes: int, limit_s: float) -> Results:
    """Yield results of the connected Ray cluster as they come, `processes` jobs at a time.

    Its machines need recon and the same files. The time limit counts from the job's submission.

    Raises:
        InputError: No further job can be done.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=1)(function)
    left, running = iter(jobs), dict[Any, tuple[int, float]]()
    while True:
        while len(running) < processes and (job := next(left, None)) is not None:
            running[remote.remote(*job[1])] = job[0], time.monotonic()
        if not running:
            return
        done, _ = ray.wait(list(running), timeout=INTERVAL_S)
        for reference, (index, since) in list(running.items()):
            if reference in done:
                del running[reference]
                yield index, _unless_halted(_reasoned(_ray_result, reference))
            elif time.monotonic() - since > limit_s:
                del running[reference]
                ray.cancel(reference, force=True)
                yield index, f"not done after {limit_s:g} s"


def _ray_result(reference: Any) -> Result | Halt:
    import ray

    try:
        result: Result | Halt = ray.get(reference)
        return result
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError:
        return ENDED
