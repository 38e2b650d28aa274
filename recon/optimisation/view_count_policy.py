"""How the optimisation depends on the number of views: a table of all thresholds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewCountPolicy:
    """Thresholds of the optimisation on the number of views.

    The gain of a row over its removal is the mean over development captures, in dB of PSNR on
    held-out views. Setup, single values, and rows that were removed because they were worth less
    than 0.1 dB: docs/experiments/view-count-policy.md and docs/experiments/whole-captures.md.

    | row                       | views      | reason                           | gain         |
    |---------------------------|------------|----------------------------------|--------------|
    | gradients must agree      | 2          | a view changes what only it sees | +0.15        |
    | more steps                | 4 and more | held-out views still improve     | +0.26        |
    | more renders with views   | 9 and more | every view needs its own         | +0.9 (fox)   |
    | fewer views for each step | 9 and more | more steps for as many renders   | not measured |
    """

    agreement_views: int = 2
    """With this number of views, their gradients must agree in sign."""
    min_views_more_steps: int = 4
    """From this number of views on, the number of steps is multiplied."""
    more_steps_factor: float = 4 / 3
    """Factor of the number of steps for that many views."""
    many_views: int = 9
    """From this number of views on, the number of renders grows with each view."""
    renders_per_view: float = 2 / 3
    """Renders for each further view, in units of the number of steps."""
    max_renders: float = 70.0
    """Maximum number of renders, in units of the number of steps."""
    min_views_cameras: int = 5
    """From this number of views on, cameras may be corrected: fewer bend the scene instead."""
    most_steps: int = 20
    """Factor of the usual number of steps that a time limit may be used for."""
    most_steps_few: int = 3
    """The same with few views, whose scene soon fits nothing but them."""
    views_per_step: int = 2
    """Maximum number of views for each step if there are many."""

    def schedule(self, steps: int, num_views: int, views_per_step: int) -> tuple[float, int]:
        """Return the number of steps, and the number of views that are rendered for each.

        Args:
            steps: Number of steps for up to three views.
            num_views: Number of views.
            views_per_step: Maximum number of views for each step, for few views.
        """
        if num_views < self.many_views:
            factor = self.more_steps_factor if num_views >= self.min_views_more_steps else 1.0
            return factor * steps, views_per_step
        few = self.more_steps_factor * views_per_step
        renders = few + self.renders_per_view * (num_views - self.many_views + 1)
        count = min(self.views_per_step, views_per_step)
        return min(renders, self.max_renders) / count * steps, count

    def max_steps(self, usual: int, num_views: int) -> int:
        """Return the number of steps beyond which a scene fits its views only.

        Args:
            usual: Number of steps without a time limit.
            num_views: Number of views.
        """
        return usual * (self.most_steps if num_views >= self.many_views else self.most_steps_few)

    def requires_agreement(self, num_views: int) -> bool:
        """Return whether the gradients of the views must agree in sign."""
        return num_views == self.agreement_views


POLICY = ViewCountPolicy()
