"""How the optimisation depends on the number of views: a table of all thresholds."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ViewCountPolicy:
    """Thresholds of the optimisation on the number of views.

    The gain of a row over its removal is the mean over development captures, in dB of PSNR on
    held-out views: once measured with earlier weights at up to 512 px, and again on one to four
    captures at 256 px. Setup, single values and limits: docs/experiments/view-count-policy.md.

    | row                       | views      | reason                               | gain         |
    |---------------------------|------------|--------------------------------------|--------------|
    | agreement, all attributes | 2          | each view bends what only it sees    | +0.05, -0.27 |
    | agreement, opacities      | 3 and more | one view fades others' Gaussians     | -0.02, +0.03 |
    | lower lr_mean             | 1 to 3     | positions are hardly constrained     | 0.00, +0.06  |
    | lower lr_scale, lr_quat   | 1 to 3     | shapes are hardly constrained        | n/a, -0.10   |
    | twice the steps           | 4 and more | held-out views still improve         | +0.26, n/a   |
    | steps grow with views     | 9 and more | each is rendered as often as of four | not measured |
    | early stopping            | 4 and more | more steps may overfit the views     | n/a, 0.00    |
    """

    few_views: int = 3
    """Up to this number of views, learning rates of shapes and positions are lower."""
    lr_scale_few: float = 0.25
    """Factor of the learning rate of scales for few views."""
    lr_quat_few: float = 0.5
    """Factor of the learning rate of quaternions for few views."""
    lr_mean_few: tuple[float, ...] = (0.2, 0.2, 1 / 3)
    """Factor of the learning rate of positions for 1, 2, ... `few_views` views."""
    steps_many: float = 2.0
    """Factor of the number of steps for more than `few_views` views."""
    min_views_early_stopping: int = 4
    """From this number of views on, a held-out view limits the number of steps."""
    agree_on_all: int = 2
    """With this number of views, they must agree on every attribute; with more, on opacities."""

    def steps_factor(self, num_views: int, views_per_step: int) -> float:
        """Return the factor of the number of steps; many views are rendered as often as four."""
        factor = self.steps_many if num_views > self.few_views else 1.0
        return max(factor, num_views / views_per_step)

    def lr_factors(self, num_views: int) -> dict[str, float]:
        """Return factors of learning rates by field of OptimiseConfig."""
        if num_views > self.few_views:
            return {}
        return {
            "lr_mean": self.lr_mean_few[max(num_views, 1) - 1],
            "lr_scale": self.lr_scale_few,
            "lr_quat": self.lr_quat_few,
        }

    def agreement(self, num_views: int) -> Literal["none", "opacities", "all"]:
        """Return the attributes on which gradients of the views must agree in sign."""
        if num_views <= 1:
            return "none"
        return "all" if num_views <= self.agree_on_all else "opacities"

    def stops_early(self, num_views: int) -> bool:
        """Return whether there are enough views to hold one out."""
        return num_views >= self.min_views_early_stopping


POLICY = ViewCountPolicy()
