"""Configuration of the optimisation: number of views, and time limits."""

from dataclasses import replace

import pytest

from recon.errors import ConfigError
from recon.optimisation.config import OptimiseConfig


def renderings_per_view(steps: int, count: int) -> float:
    """How often each of `count` views is rendered."""
    return steps * min(OptimiseConfig().views_per_step, count) / count


def test_no_view_is_rendered_less_often_when_there_are_more() -> None:
    """Each of many views is rendered at least as often as each of three, up to the step limit."""
    config = OptimiseConfig(steps=45)
    least = renderings_per_view(config.for_num_views(3).steps, 3)
    steps = [config.for_num_views(count).steps for count in range(1, 101)]
    assert steps == sorted(steps) and steps[0] == steps[2] == 45 < steps[3]
    assert all(
        renderings_per_view(taken, count) >= least for count, taken in enumerate(steps, start=1)
    )
    assert config.for_num_views(10_000).steps == config.for_num_views(100_000).steps


def test_learning_rates_do_not_depend_on_the_number_of_views() -> None:
    config = OptimiseConfig()
    for count in (1, 2, 3, 4, 20):
        assert replace(config.for_num_views(count), steps=config.steps) == config


@pytest.mark.parametrize("name, value", [("steps", -1), ("seconds", -1.0), ("views_per_step", 0)])
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must"):
        replace(OptimiseConfig(), **{name: value})
