"""Search for the number of Gaussians that has a property."""

import math
from collections.abc import Callable
from typing import TypeVar

from recon.types import Progress

Found = TypeVar("Found")
ROUNDS = 8
# A goal is met between this part of it and all of it.
CLOSE = 0.95
# Part of a goal that attempts aim at.
AIM = 0.5 * (1 + CLOSE)
# Numbers so near each other that what is left between them is chance.
NARROW = 1.015
# Slopes that measurements may suggest.
GENTLE, STEEP = 0.2, 6.0


def approach(
    attempt: Callable[[int], Found],
    value: Callable[[Found], float],
    goal: float,
    slope: float,
    first: int,
    most: int,
    progress: Progress,
) -> list[Found]:
    """Attempts with numbers from 1 to `most`, from `first` on, until the last one's value is just
    below the goal, or nothing is left to try.

    Values are taken to follow a power of the number, `slope` until two of them tell; a bracket
    keeps that from running away.
    """
    low, high, number = 0, most + 1, min(max(first, 1), most)
    found: list[Found] = []
    before: tuple[int, float] | None = None
    for turn in range(ROUNDS):
        progress(turn / ROUNDS)
        found.append(attempt(number))
        now = max(float(value(found[-1])), 1e-9)
        if is_met(now, goal):
            break
        if (now < goal) == (slope > 0):
            low = number
        else:
            high = number
        if before is not None:
            slope = _fitted(before, (number, now), slope)
        before = number, now
        guess = round(number * (AIM * goal / now) ** (1 / slope))
        number = guess if low < guess < high else round(math.sqrt(max(low, 0.5) * high))
        if not low < number < high or high < NARROW * low:
            break
    return found


def is_met(value: float, goal: float) -> bool:
    """Just below it."""
    return CLOSE * goal <= value <= goal


def _fitted(one: tuple[int, float], two: tuple[int, float], slope: float) -> float:
    """Of the line through two values, if it makes sense."""
    if one[0] == two[0]:
        return slope
    new = math.log(two[1] / one[1]) / math.log(two[0] / one[0])
    return math.copysign(min(max(abs(new), GENTLE), STEEP), slope) if new * slope > 0 else slope
