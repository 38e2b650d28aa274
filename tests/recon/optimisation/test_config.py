"""Configuration of the optimisation: number of views, and time limits."""

from dataclasses import replace

import pytest

from recon.errors import ConfigError
from recon.optimisation.config import OptimiseConfig
from recon.optimisation.view_count_policy import POLICY


def test_positions_move_faster_from_two_views_on() -> None:
    rates = [OptimiseConfig(lr_mean=0.1).for_num_views(count).lr_mean for count in (1, 2, 3, 40)]
    assert rates == [0.1, 0.2, 0.2, 0.2]
    assert OptimiseConfig(lr_mean=0.1).for_time(60.0, 40).lr_mean == 0.2


def test_scales_change_faster_with_two_to_eight_views() -> None:
    config = OptimiseConfig(lr_scale=0.1)
    rates = [config.for_num_views(count).lr_scale for count in (1, 2, 8, 9, 40)]
    assert rates == pytest.approx([0.1, 0.3, 0.3, 0.1, 0.1])


@pytest.mark.parametrize("count", [2, 9, 50])
def test_the_usual_steps_are_those_of_standard_quality(count: int) -> None:
    usual = OptimiseConfig().for_num_views(count).steps
    for longer in (OptimiseConfig(135), OptimiseConfig.for_seconds(60.0), OptimiseConfig()):
        assert longer.for_num_views(count).usual_steps == usual
    assert OptimiseConfig().for_time(600.0, count).usual_steps == usual


def test_positions_move_faster_in_longer_runs_of_many_views() -> None:
    rates = [POLICY.long_run_rate(steps, 9) for steps in (0.1, 1.0, 2.25, 4.0, 20.0)]
    assert rates == [1.0, 1.0, 1.5, 2.0, 2.0] and POLICY.long_run_rate(4.0, 8) == 1.0


def test_more_views_are_rendered_more_often_in_total() -> None:
    """Neither steps nor renders become fewer with more views, up to a limit."""
    schedules = [OptimiseConfig(45).for_num_views(count) for count in range(1, 201)]
    steps = [schedule.steps for schedule in schedules]
    renders = [s.steps * min(s.views_per_step, n) for n, s in enumerate(schedules, start=1)]
    assert steps == sorted(steps) and renders == sorted(renders)
    assert steps[0] == steps[2] == 45 < steps[3] < steps[4] < steps[8]
    # The marginal view is rendered some 90 times, one of many some 45 times.
    assert 80 <= renders[11] - renders[10] <= 100
    assert 40 <= renders[50] - renders[49] <= 50
    limit = OptimiseConfig(45).for_num_views(10_000)
    assert limit == OptimiseConfig(45).for_num_views(100_000)


@pytest.mark.parametrize("count", [1, 2, 4, 8, 9, 50])
def test_few_steps_stay_few(count: int) -> None:
    assert OptimiseConfig(0).for_num_views(count).steps == 0
    assert 0 < OptimiseConfig(1).for_num_views(count).steps <= 40
    assert OptimiseConfig.for_seconds(5.0).for_num_views(count).seconds == 5


def test_colors_depend_on_the_direction_if_three_views_tell() -> None:
    degrees = [OptimiseConfig().for_num_views(count).sh_degree for count in range(1, 5)]
    assert degrees == [None, None, 1, 1]
    assert OptimiseConfig(sh_degree=0).for_num_views(9).sh_degree == 0


@pytest.mark.parametrize(
    "name, value",
    [
        ("steps", -1),
        ("seconds", -1.0),
        ("usual_steps", -1),
        ("views_per_step", 0),
        ("sh_degree", 5),
        ("ssim_weight", 1.5),
    ],
)
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must"):
        replace(OptimiseConfig(), **{name: value})
