"""How the optimisation steps."""

import math
from dataclasses import dataclass, replace

from recon.errors import ReconError

# What a time limit may be used up with.
MAX_STEPS = 3000
# Two photos tell little of depth that the network did not see: positions learn so much slower.
FEW_PHOTOS, FEW_PHOTOS_MEAN = 2, 0.6


@dataclass(frozen=True)
class RefineConfig:
    """Adam's learning rates for each attribute, at the start: they fall to zero with a cosine. The
    values were measured, see experiments.md."""

    steps: int = 45
    """Gradient steps for up to `views_a_step` photos; 0 leaves the scene as it is."""
    seconds: float | None = None
    """Stop after this time, if that is earlier (s)."""
    color: float = 0.01
    """Of SH coefficients."""
    opacity: float = 0.08
    """Of the logit of opacities."""
    scale: float = 0.02
    """Of the logarithm of scales."""
    quat: float = 0.01
    """Of quaternions."""
    mean: float = 0.1
    """Of positions, in units of the Gaussian's largest scale."""
    gain: float = 0.01
    """Of each photo's exposure (logarithm, per colour channel)."""
    unanimous: bool = True
    """Whether photos must agree on what is to change (Ballot)."""
    views_a_step: int = 4
    """Photos that are rendered for one step, in turn."""

    def for_photos(self, count: int) -> "RefineConfig":
        """With as many more steps as it takes to show each of many photos as often; with slower
        positions for few."""
        steps = math.ceil(self.steps * max(count / self.views_a_step, 1))
        mean = self.mean * (FEW_PHOTOS_MEAN if count <= FEW_PHOTOS else 1.0)
        return replace(self, steps=min(steps, max(self.steps, MAX_STEPS)), mean=mean)

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
        raise ReconError(f"--refine must be steps (45) or seconds (20s), found {text!r}")
    if text.endswith("s"):
        return RefineConfig(steps=MAX_STEPS, seconds=float(number))
    return RefineConfig(steps=int(number))
