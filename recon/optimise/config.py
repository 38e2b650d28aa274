"""How the optimisation steps."""

import math
from dataclasses import dataclass, replace

from recon.errors import ConfigError

# What a time limit may be used up with.
MAX_STEPS = 3000
# From so many photos on, twice as many steps still help others than them.
MANY_PHOTOS, MANY_TURNS = 4, 2
# Fewer photos tell little of shapes that the network did not see: those learn so much slower.
FEW_SCALE, FEW_QUAT = 0.25, 0.5
SCENE_RATES = ("color", "opacity", "scale", "quat", "mean")
FEW_MEAN = {1: 0.2, 2: 0.2, 3: 1 / 3}


@dataclass(frozen=True)
class RefineConfig:
    """Adam's learning rates for each attribute, at the start: they fall to zero with a cosine. The
    values were measured, see experiments.md."""

    steps: int = 45
    """Gradient steps for up to three photos; 0 leaves the scene as it is."""
    seconds: float | None = None
    """Stop after this time, if that is earlier (s)."""
    color: float = 0.01
    """Of SH coefficients."""
    opacity: float = 0.08
    """Of the logit of opacities."""
    scale: float = 0.08
    """Of the logarithm of scales."""
    quat: float = 0.02
    """Of quaternions."""
    mean: float = 0.3
    """Of positions, in units of the Gaussian's largest scale."""
    gain: float = 0.01
    """Of each photo's exposure (logarithm, per colour channel)."""
    unanimous: bool = True
    """Whether photos must agree on what is to change (Ballot)."""
    views_a_step: int = 4
    """Photos that are rendered for one step, in turn."""

    def for_photos(self, count: int) -> "RefineConfig":
        """Twice the steps from four photos on, and as many more as it takes to show each of very
        many as often as one of three; slower shapes for few."""
        many = count >= MANY_PHOTOS
        steps = math.ceil(self.steps * max(MANY_TURNS if many else 1, count / self.views_a_step))
        slower = self if many else self._slower(FEW_MEAN[max(count, 1)])
        return replace(slower, steps=min(steps, max(self.steps, MAX_STEPS)))

    def _slower(self, mean: float) -> "RefineConfig":
        return replace(
            self, mean=mean * self.mean, scale=FEW_SCALE * self.scale, quat=FEW_QUAT * self.quat
        )

    def times(self, factor: float) -> "RefineConfig":
        """With all the scene's learning rates so many times as high."""
        rates = {name: factor * getattr(self, name) for name in SCENE_RATES}
        return replace(self, **rates)

    def share(self, part: float) -> "RefineConfig":
        """With this part of the time, if time is limited."""
        return self if self.seconds is None else replace(self, seconds=part * self.seconds)

    def rest(self, spent: float, steps: int | None) -> "RefineConfig":
        """With the time that is left after `spent` seconds, and at most so many steps."""
        seconds = None if self.seconds is None else max(self.seconds - spent, 0.0)
        limit = self.steps if steps is None else min(steps, self.steps)
        return replace(self, seconds=seconds, steps=limit)


def parse_refine(text: str) -> RefineConfig:
    """`45`: so many steps; `20s`: as many as take that time; ReconError for anything else."""
    number = text.removesuffix("s")
    if not number.isdecimal():
        raise ConfigError(f"refine must be steps (45) or seconds (20s), got {text!r}", "refine")
    if text.endswith("s"):
        return RefineConfig(steps=MAX_STEPS, seconds=float(number))
    return RefineConfig(steps=int(number))
