"""Geometry keeps its digits under autocast."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Runs a function with autocast off: bf16 has 8 bits, a ray or a pose needs all of 24."""

    @functools.wraps(function)
    def exact(*arguments: P.args, **named: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*arguments, **named)

    return exact
