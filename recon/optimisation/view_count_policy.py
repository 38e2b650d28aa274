"""How the optimisation depends on the number of views: a table of all thresholds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewCountPolicy:
    """Thresholds of the optimisation on the number of views.

    The gain of a row over its removal is the mean over development captures, in dB of PSNR on
    held-out views. Setup, single values, and rows that were removed because they were worth less
    than 0.1 dB: docs/experiments/view-count-policy.md.

    | row                   | views      | reason                                | gain         |
    |-----------------------|------------|---------------------------------------|--------------|
    | gradients must agree  | 2          | a view changes what only it sees      | +0.15        |
    | twice the steps       | 4 and more | held-out views still improve          | +0.26        |
    | steps grow with views | 9 and more | each is rendered as often as one of 4 | not measured |
    """

    agreement_views: int = 2
    """With this number of views, their gradients must agree in sign."""
    min_views_more_steps: int = 4
    """From this number of views on, the number of steps is multiplied."""
    more_steps_factor: float = 2.0
    """Factor of the number of steps for that many views."""

    def steps_factor(self, num_views: int, views_per_step: int) -> float:
        """Return the factor of the number of steps; many views are rendered as often as four."""
        factor = self.more_steps_factor if num_views >= self.min_views_more_steps else 1.0
        return max(factor, num_views / views_per_step)

    def requires_agreement(self, num_views: int) -> bool:
        """Return whether the gradients of the views must agree in sign."""
        return num_views == self.agreement_views


POLICY = ViewCountPolicy()
