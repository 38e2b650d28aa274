"""Checks of shapes and types in tests: only of the first calls of each function in each test.

The plugin of jaxtyping instruments the packages (addopts in pyproject.toml) by the decorator
`jaxtyping.jaxtyped`. Its checks take longer than the work of small functions, so that an
optimisation of a thousand steps would mostly repeat the same checks.
"""

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import jaxtyping

CHECKED_CALLS = 20
_jaxtyped = jaxtyping.jaxtyped
_calls: Counter[tuple[str, str]] = Counter()


def install() -> None:
    """Replace the decorator; packages must not have been imported yet."""
    jaxtyping.jaxtyped = _limited_decorator


def start_test() -> None:
    """Check the first calls of every function again."""
    _calls.clear()


def _limited_decorator(*, typechecker: Callable) -> Callable:
    return functools.partial(_decorate, typechecker)


def _decorate(typechecker: Callable, decorated: Any) -> Any:
    if not inspect.isclass(decorated):
        return _limited(typechecker, decorated)
    if dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated):
        init = decorated.__init__
        if not hasattr(init, "__wrapped__"):
            decorated.__init__ = _limited(typechecker, init)
    return decorated


def _limited(typechecker: Callable, function: Callable) -> Callable:
    name = (function.__module__, function.__qualname__)

    @functools.cache
    def checked() -> Callable:
        # At the first call: to generate the checks of a function takes milliseconds.
        return _jaxtyped(function, typechecker=typechecker)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        _calls[name] += 1
        if _calls[name] > CHECKED_CALLS:
            return function(*args, **kwargs)
        return checked()(*args, **kwargs)

    return call
