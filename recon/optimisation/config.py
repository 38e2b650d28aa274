"""Configuration of the test-time optimisation. Imports nothing heavy."""

import math
from dataclasses import dataclass, replace

from recon.errors import ConfigError
from recon.optimisation.view_count_policy import POLICY
from recon.validation import check_types

# Upper bound on the number of steps within a time budget.
MAX_STEPS = 3000
# Learning rate of the poses of cameras, if they are corrected.
CAMERA_LR = 1e-3
SCENE_LRS = ("lr_sh", "lr_opacity", "lr_scale", "lr_quat", "lr_mean")


@dataclass(frozen=True)
class OptimiseConfig:
    """Number of steps and Adam's initial learning rates, which decay to zero with a cosine.

    The values were chosen by experiment (docs/experiments).
    """

    steps: int = 45
    """Gradient steps for up to three views; 0 leaves the scene unchanged."""
    seconds: float | None = None
    """Time limit (s), which ends the optimisation if it is reached before the last step. See
    `for_seconds` to take as many steps as fit into a time limit."""
    sh_degree: int | None = None
    """Degree of the spherical harmonics that the scene gets at least. None keeps them, or leaves
    it to the number of views (`for_num_views`)."""
    ssim_weight: float = 0.05
    """Weight of 1 - SSIM in the loss, from 0 to 1; that of the mean absolute error is the rest."""
    random_backgrounds: bool = True
    """Whether a random colour lies behind renders and transparent pixels of photos in each step, so
    that surfaces become opaque, and what is masked out becomes transparent instead of black."""
    lr_sh: float = 0.01
    """Learning rate of SH coefficients."""
    lr_opacity: float = 0.08
    """Learning rate of the logit of opacities."""
    lr_scale: float = 0.08
    """Learning rate of the logarithm of scales with one view, and with many."""
    lr_quat: float = 0.02
    """Learning rate of quaternions."""
    lr_mean: float = 0.3
    """Learning rate of positions with one view, in units of the Gaussian's largest scale."""
    lr_exposure: float = 0.001
    """Learning rate of each view's exposure (logarithm, per colour channel). Low: what varies
    smoothly from camera to camera is for the colours, or photos between them come out wrong."""
    usual_steps: int | None = None
    """Number of steps of standard quality: in a longer run exposures are learned within them only,
    with a cosine of their own, and positions move faster. None: no run counts as longer."""
    lr_camera: float = 0.0
    """Learning rate of corrections of the cameras' poses (radians, and fractions of the depth);
    0 keeps the cameras. CAMERA_LR suits cameras that are wrong by some pixels."""
    haze_radius: float = 0.3
    """Distance to a camera, relative to the median depth that it sees, within which Gaussians that
    most views see through are hidden halfway, from `min_views_haze` views on (see
    ViewCountPolicy)."""
    views_per_step: int = 2
    """Views that are rendered for one step, in rotation."""

    def __post_init__(self) -> None:
        check_types(self)
        numbers = ("steps", "seconds", "usual_steps", "haze_radius", "lr_exposure", "lr_camera")
        for name in (*numbers, *SCENE_LRS):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name} must not be negative, got {value}", name)
        if not 0 <= (self.sh_degree or 0) <= 4:
            raise ConfigError(f"sh_degree must be 0 to 4, got {self.sh_degree}", "sh_degree")
        if not 0 <= self.ssim_weight <= 1:
            raise ConfigError(f"ssim_weight must be 0 to 1, got {self.ssim_weight}", "ssim_weight")
        if self.views_per_step < 1:
            raise ConfigError(
                f"views_per_step must be at least 1, got {self.views_per_step}", "views_per_step"
            )

    @staticmethod
    def for_seconds(seconds: float) -> "OptimiseConfig":
        """Return a configuration that takes as many steps as fit into a time limit (s)."""
        return OptimiseConfig(steps=MAX_STEPS, seconds=seconds)

    def for_num_views(self, count: int) -> "OptimiseConfig":
        """Adapt steps, spherical harmonics and learning rates to the number of views.

        See ViewCountPolicy.
        """
        degree = self.sh_degree
        if degree is None and count >= POLICY.min_views_sh:
            degree = POLICY.sh_degree
        return replace(
            self,
            steps=_num_steps(self.steps, count),
            usual_steps=_num_steps(OptimiseConfig.steps, count),
            sh_degree=degree,
            lr_mean=POLICY.position_rate(count) * self.lr_mean,
            lr_scale=POLICY.scale_rate(count) * self.lr_scale,
        )

    def for_time(self, seconds: float, count: int) -> "OptimiseConfig":
        """Return a configuration that uses up a time (s), unless more steps would do harm.

        Args:
            seconds: Time that is left.
            count: Number of views.
        """
        usual = self.for_num_views(count)
        return replace(usual, steps=POLICY.max_steps(usual.steps, count), seconds=seconds)

    def scale_lrs(self, factor: float) -> "OptimiseConfig":
        """Multiply all learning rates of the scene by a factor."""
        return replace(self, **{name: factor * getattr(self, name) for name in SCENE_LRS})


def _num_steps(few: int, count: int) -> int:
    """Return the number of steps for some views, from that for few."""
    return min(math.ceil(POLICY.step_factor(count) * few), max(few, MAX_STEPS))
