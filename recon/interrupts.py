"""Requests to stop (Ctrl-C, SIGTERM, SIGHUP), which end a run within seconds and leave nothing.

A signal raises KeyboardInterrupt in the main thread. A call into a library may keep that thread
from noticing for long, so that a second thread ends the process if it is still there after
GRACE_S; both undo what is registered by `undone`.
"""

import contextlib
import io
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

# Time that the main thread has to end by itself (s), and to write what is kept.
GRACE_S, KEEPING_GRACE_S = 1.0, 60.0
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    WORDS[signal.SIGHUP] = "the terminal was closed"
# What must be undone when the process ends, in the order in which it was begun.
_pending: dict[object, Callable[[], object]] = {}
# Those of the commands that run.
_current: list["StopRequests"] = []


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` when the block ends, or when the process is stopped before."""
    key = object()
    _pending[key] = undo
    try:
        yield
    finally:
        undo()
        _pending.pop(key, None)


def note(text: str) -> None:
    """Print a remark on standard error, if anybody can read it: no reason to stop otherwise."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"recon: {text}\n")
            sys.stderr.flush()


def undo_all() -> None:
    """Undo all that is pending, the last first."""
    for undo in reversed(list(_pending.values())):
        with contextlib.suppress(Exception):
            undo()
    _pending.clear()


class StopRequests:
    """Takes the signals that ask a process to end, until `close`."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that came last."""
        self.raised = False
        """Whether the main thread has got its KeyboardInterrupt."""
        self.is_process = False
        """Whether the process may end in the handler of a signal."""
        self.held: tuple[int, ...] = ()
        """The signals that are only noted when one comes first; see `hold`."""
        self.told = False
        """Whether the user has been told."""
        self._previous: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._fd_before = -1

    @staticmethod
    def taken() -> "StopRequests":
        """Take the signals, except those that the process was told to ignore (nohup)."""
        requests = StopRequests()
        if threading.current_thread() is not threading.main_thread():
            return requests
        for number in WORDS:
            if signal.getsignal(number) != signal.SIG_IGN:
                requests._previous[number] = signal.signal(number, requests._handle)
        if os.name != "posix":
            return requests
        read, write = os.pipe()
        os.set_blocking(write, False)
        requests._pipe = read, write
        requests._fd_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=requests._watch, args=(read,), daemon=True).start()
        return requests

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._fd_before)
            os.close(self._pipe[1])
            self._pipe = None

    @property
    def exit_code(self) -> int:
        """Exit code of a process that the signal ended."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def word(self) -> str:
        """What happened, for the message."""
        return WORDS[signal.Signals(self.signal or signal.SIGINT)]

    @contextmanager
    def hold(self, numbers: tuple[int, ...]) -> Iterator[Callable[[], int | None]]:
        """Note a first signal instead of raising KeyboardInterrupt; yield which one it was."""
        self.held = numbers
        try:
            yield lambda: self.signal
        finally:
            self.held = ()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Later signals must not interrupt the work of cleaning up.
        if self.raised:
            return
        is_noted = self.signal is None and number in self.held
        self.signal = number
        if is_noted:
            return
        self.raised = True
        if self.is_process and _is_importing(frame):
            # Libraries in C++ that import Python modules abort the process on an exception.
            self._end(number)
        raise KeyboardInterrupt

    def _watch(self, read: int) -> None:
        """End the process if it does not end by itself in time after a signal."""
        asked, number, deadline = 0, 0, math.inf
        while time.monotonic() < deadline:
            wait = None if deadline == math.inf else max(deadline - time.monotonic(), 0)
            if not select.select([read], [], [], wait)[0]:
                continue
            byte = os.read(read, 1)
            if not byte:
                os.close(read)
                return
            if byte[0] not in self._previous:
                continue
            asked += 1
            number = number or byte[0]
            keeps = asked == 1 and number in self.held
            grace = KEEPING_GRACE_S if keeps else GRACE_S
            deadline = min(deadline, time.monotonic() + grace)
        self._end(number)

    def _end(self, number: int) -> None:
        undo_all()
        if not self.told:
            os.write(2, f"recon: {WORDS[signal.Signals(number)]}\n".encode())
        os._exit(128 + number)

    def ignore(self) -> None:
        """Ignore the signals: the work is done, and Python takes a while to end."""
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported, directly or by a call of its own."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def stoppable(is_process: bool, quiet: bool = False) -> Iterator[None]:
    """End a block at once on a request to stop: undo what is pending, and say so in one line.

    Args:
        is_process: Whether the block is all that the process does. It then ends here, and its
            signals stay taken to the end.
        quiet: Whether nothing is said, as in a process that another one ends.

    Raises:
        SystemExit: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    if is_process:
        _prepare_streams()
    requests = StopRequests.taken()
    requests.is_process, requests.told = is_process, quiet
    _current.append(requests)
    try:
        yield
        if is_process:
            requests.ignore()
    except BaseException as error:
        # A library may have made another error of the interruption.
        if not (requests.raised or isinstance(error, KeyboardInterrupt)):
            raise
        undo_all()
        if not quiet:
            note(requests.word)
        requests.told = True
        if is_process:
            # Python would take seconds to unload the libraries, and may fail in threads.
            os._exit(requests.exit_code)
        raise SystemExit(requests.exit_code) from None
    finally:
        _current.remove(requests)
        if not is_process:
            requests.close()


@contextmanager
def hold_signal(*numbers: int) -> Iterator[Callable[[], int | None]]:
    """Note a first signal of these instead of ending at once; yield which one there was.

    The block then has KEEPING_GRACE_S to end.
    """
    with _current[-1].hold(numbers) if _current else nullcontext(lambda: None) as asked:
        yield asked


def _prepare_streams() -> None:
    """Keep files off the numbers of closed standard streams, and print any file name."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
