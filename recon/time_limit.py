"""Time limit of a reconstruction."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TimeLimit:
    """A limit on the time of a run, which starts when this is made."""

    seconds: float | None = None
    """Time that the run may take (s); None for any."""
    started: float = field(default_factory=lambda: time.monotonic())
    """Reading of the monotonic clock at the start."""

    @property
    def left(self) -> float | None:
        """Time that is left (s), 0 if there is none; None without a limit."""
        if self.seconds is None:
            return None
        return max(self.started + self.seconds - time.monotonic(), 0.0)
