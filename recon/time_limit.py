"""Time limit of a reconstruction, and the warning if it is not kept."""

import time
from dataclasses import dataclass, field

from recon.errors import counted, warn
from recon.reporting import shown_time

# A limit is kept if the run takes no more than this multiple of it and this time (s).
TOLERANCE, TOLERANCE_S = 1.1, 1.0
# Number of steps of the optimisation below which it hardly changes the scene.
MIN_STEPS = 5


@dataclass(frozen=True)
class TimeLimit:
    """A limit on the time of a run, which starts when this is made."""

    seconds: float | None = None
    """Time that the run may take (s); None for any."""
    started: float = field(default_factory=lambda: time.monotonic())
    """Reading of the monotonic clock at the start."""

    @property
    def spent(self) -> float:
        """Time since the start (s)."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Time that is left (s), 0 if there is none; None without a limit."""
        return None if self.seconds is None else max(self.seconds - self.spent, 0.0)

    @property
    def is_exceeded(self) -> bool:
        """Whether the run takes clearly longer than it may."""
        return self.seconds is not None and self.spent > TOLERANCE * self.seconds + TOLERANCE_S

    def warn_if_short(self, before: float, steps: int | None, is_cut: bool = False) -> None:
        """Warn if the run took longer than it may, or if its optimisation was cut to nearly none.

        Args:
            before: Time that had been spent when the optimisation began (s).
            steps: Number of steps that it took; None if none were wanted.
            is_cut: Whether the time ended it before its last step.
        """
        is_cut = is_cut and steps is not None and steps < MIN_STEPS
        if not self.is_exceeded and not is_cut:
            return
        if steps is None:
            self.warn(f"the run took {shown_time(self.spent, exact=True)}")
            return
        rest = "nothing was optimised"
        if steps > 0:
            taken = shown_time(self.spent - before, exact=True)
            rest = f"{counted(steps, 'step')} of the optimisation {taken}"
        self.warn(f"cameras, photos and depth took {shown_time(before, exact=True)}, and {rest}")

    def warn(self, text: str) -> None:
        """Warn that the time was too short, with what took how long."""
        assert self.seconds is not None
        warn(f"{shown_time(self.seconds, exact=True)} were too short: {text}; grant more")
