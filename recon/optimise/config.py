"""Configuration of the test-time optimisation. Imports nothing heavy."""

import math
from dataclasses import dataclass, replace

from recon.errors import ConfigError
from recon.validation import check_types

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
    """Time limit (s), if it is reached before the last step. See `for_seconds` for as many steps
    as fit into a time."""
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

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} must not be negative, got {value}", name)
        if self.views_per_step < 1:
            raise ConfigError(
                f"views_per_step must be at least 1, got {self.views_per_step}", "views_per_step"
            )

    @staticmethod
    def for_seconds(seconds: float) -> "OptimiseConfig":
        """Return a configuration that takes as many steps as fit into a time limit (s)."""
        return OptimiseConfig(steps=MAX_STEPS, seconds=seconds)

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
