"""How the optimisation depends on the number of views: a table of all thresholds."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ViewCountPolicy:
    """Thresholds of the optimisation on the number of views.

    The gain of a row over its removal is the mean over development captures, in dB of PSNR on
    held-out views. Setup, single values, and rows that were removed because they were worth less
    than 0.1 dB: docs/experiments/view-count-policy.md and docs/experiments/steps-and-colors.md.

    | row                         | views      | reason                            | gain       |
    |-----------------------------|------------|-----------------------------------|------------|
    | colours vary with direction | 3 and more | surfaces shine                    | +0.2       |
    | positions move faster       | 2 and more | views tell their depth            | +0.2       |
    | more steps with views       | 4 and more | every view needs its own renders  | +0.9 (fox) |
    | faster still in longer runs | 9 and more | there is time to settle           | +0.4       |
    | scales change faster        | 2 to 8     | there are few steps               | +0.2       |
    """

    min_views_sh: int = 3
    """From this number of views on, colours depend on the direction."""
    sh_degree: int = 1
    """Degree of the spherical harmonics that a scene has then, at least."""
    min_views_fast: int = 2
    """From this number of views on, positions move faster, and below `many_views` scales change
    faster."""
    position_factor: float = 2.0
    """Factor of the learning rate of positions then. Larger ones blur (ST-LPIPS)."""
    scale_factor: float = 3.0
    """Factor of the learning rate of scales then."""
    longest_positions: float = 4.0
    """With `many_views`, positions move faster by the root of the number of steps relative to the
    usual one, up to this."""
    min_views_more_steps: int = 4
    """From this number of views on, the number of steps grows with each view."""
    first_factor: float = 1.75
    """Factor of the number of steps for that many views."""
    factor_per_view: float = 1.0
    """What each further view adds to it: 90 renders of two views a step, with 45 steps."""
    many_views_steps: int = 16
    """Beyond this number of views their photos overlap more, and each adds less."""
    factor_per_view_of_many: float = 0.5
    """What each of those adds: 45 renders."""
    max_factor: float = 70.0
    """Maximum of it."""
    min_views_cameras: int = 5
    """From this number of views on, cameras may be corrected: fewer bend the scene instead."""
    min_views_haze: int = 5
    """From this number of views on, Gaussians near a camera that most views see through go."""
    most_steps: int = 20
    """Factor of the usual number of steps that a time limit may be used for."""
    most_steps_few: int = 3
    """The same with few views, whose scene soon fits nothing but them."""
    many_views: int = 9
    """From this number of views on, they are not few."""

    def position_rate(self, num_views: int) -> float:
        """Return the factor of the learning rate of positions."""
        return self.position_factor if num_views >= self.min_views_fast else 1.0

    def scale_rate(self, num_views: int) -> float:
        """Return the factor of the learning rate of scales."""
        few = self.min_views_fast <= num_views < self.many_views
        return self.scale_factor if few else 1.0

    def long_run_rate(self, relative_steps: float, num_views: int) -> float:
        """Return a further factor of it in a run of many steps.

        Args:
            relative_steps: Number of steps of the run relative to the usual one.
            num_views: Number of views.
        """
        if num_views < self.many_views:
            return 1.0
        return math.sqrt(min(max(relative_steps, 1.0), self.longest_positions))

    def step_factor(self, num_views: int) -> float:
        """Return the factor of the number of steps, which is that of up to three views."""
        if num_views < self.min_views_more_steps:
            return 1.0
        most = max(num_views - self.many_views_steps, 0)
        further = num_views - self.min_views_more_steps - most
        factor = self.first_factor + self.factor_per_view * further
        return min(factor + self.factor_per_view_of_many * most, self.max_factor)

    def max_steps(self, usual: int, num_views: int) -> int:
        """Return the number of steps beyond which a scene fits its views only.

        Args:
            usual: Number of steps without a time limit.
            num_views: Number of views.
        """
        return usual * (self.most_steps if num_views >= self.many_views else self.most_steps_few)


POLICY = ViewCountPolicy()
