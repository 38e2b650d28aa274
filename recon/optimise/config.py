"""Configuration of the test-time optimisation. Imports nothing heavy."""

import math
from dataclasses import dataclass, replace

from recon.errors import ConfigError

# Upper bound on the number of steps within a time budget.
MAX_STEPS = 3000
# From this number of views on, this multiple of the steps still improves held-out views.
MANY_VIEWS, MANY_VIEWS_STEPS = 4, 2
# Learning-rate multipliers for fewer views, which constrain shapes less.
FEW_VIEWS_SCALE, FEW_VIEWS_QUAT = 0.25, 0.5
FEW_VIEWS_MEAN = {1: 0.2, 2: 0.2, 3: 1 / 3}
SCENE_LRS = ("lr_sh", "lr_opacity", "lr_scale", "lr_quat", "lr_mean")


@dataclass(frozen=True)
class OptimiseConfig:
    """Number of steps and Adam's initial learning rates, which decay to zero with a cosine.

    The values were measured, see docs/experiments.
    """

    steps: int = 45
    """Gradient steps for up to three views; 0 leaves the scene unchanged."""
    seconds: float | None = None
    """Time limit (s), if it is reached before the last step."""
    lr_sh: float = 0.01
    """Learning rate of SH coefficients."""
    lr_opacity: float = 0.08
    """Learning rate of the logit of opacities."""
    lr_scale: float = 0.08
    """Learning rate of the logarithm of scales."""
    lr_quat: float = 0.02
    """Learning rate of quaternions."""
    lr_mean: float = 0.3
    """Learning rate of positions, in units of the Gaussian's largest scale."""
    lr_exposure: float = 0.01
    """Learning rate of each view's exposure (logarithm, per colour channel)."""
    require_agreement: bool = True
    """Whether views must agree on the sign of a gradient (see GradientAgreement)."""
    views_per_step: int = 4
    """Views that are rendered for one step, in rotation."""

    def for_num_views(self, count: int) -> "OptimiseConfig":
        """Adapt steps and learning rates to the number of views.

        Twice the steps from four views on, and more for many views, so that each is rendered as
        often as one of three; lower learning rates of shapes and positions for few views.
        """
        many = count >= MANY_VIEWS
        factor = max(MANY_VIEWS_STEPS if many else 1, count / self.views_per_step)
        steps = math.ceil(self.steps * factor)
        config = self if many else self._for_few_views(FEW_VIEWS_MEAN[max(count, 1)])
        return replace(config, steps=min(steps, max(self.steps, MAX_STEPS)))

    def _for_few_views(self, mean_factor: float) -> "OptimiseConfig":
        return replace(
            self,
            lr_mean=mean_factor * self.lr_mean,
            lr_scale=FEW_VIEWS_SCALE * self.lr_scale,
            lr_quat=FEW_VIEWS_QUAT * self.lr_quat,
        )

    def scale_lrs(self, factor: float) -> "OptimiseConfig":
        """Multiply all learning rates of the scene by a factor."""
        return replace(self, **{name: factor * getattr(self, name) for name in SCENE_LRS})

    def with_time_fraction(self, fraction: float) -> "OptimiseConfig":
        """Limit the time to a fraction of the time limit, if there is one."""
        if self.seconds is None:
            return self
        return replace(self, seconds=fraction * self.seconds)

    def remaining(self, spent: float, max_steps: int | None) -> "OptimiseConfig":
        """Subtract `spent` seconds from the time limit, and take at most `max_steps` steps."""
        seconds = None if self.seconds is None else max(self.seconds - spent, 0.0)
        steps = self.steps if max_steps is None else min(max_steps, self.steps)
        return replace(self, seconds=seconds, steps=steps)


def parse_refine(text: str) -> OptimiseConfig:
    """Read "45" as a number of steps and "20s" as a time limit; ReconError for anything else."""
    number = text.removesuffix("s")
    if not number.isdecimal():
        raise ConfigError(f"refine must be steps (45) or seconds (20s), got {text!r}", "refine")
    if text.endswith("s"):
        return OptimiseConfig(steps=MAX_STEPS, seconds=float(number))
    return OptimiseConfig(steps=int(number))
