"""When a campaign stops before its end: time is up, a signal, or a parent process that is gone."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Environment variable with the process id of the process that started this one.
PARENT = "RECON_CAMPAIGN_PARENT"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Says whether to stop; call it before every step.

    Args:
        minutes: Time limit from now on (minutes); None for none.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self.signal is not None:
            return self.signal.name
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "time is up"
        parent = os.environ.get(PARENT)
        if parent is not None and os.getppid() != int(parent):
            return "the process that started this one is gone"
        return None

    @contextmanager
    def on_signals(self) -> Iterator["StopRequest"]:
        """Stop on Ctrl-C and SIGTERM inside of the block; a second signal ends at once."""
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        signal.signal(number, signal.default_int_handler)
