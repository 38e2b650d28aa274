"""Type checks of configurations at run time."""

import types
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from recon.errors import ConfigError

_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def check_types(config: Any) -> None:
    """Check the values of a dataclass against the types of its fields.

    Raises:
        ConfigError: The type of a value differs from its field's; the message names the field.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if not _fits(value, hint):
            raise ConfigError(f"{field.name} must be {_words(hint)}, got {value!r}", field.name)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        inner = arguments[0] if arguments[-1] is Ellipsis else None
        return isinstance(value, tuple) and (inner is None or all(_fits(v, inner) for v in value))
    if hint in (int, float):
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _words(hint: Any) -> str:
    """Describe a type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("None" if a is types.NoneType else _words(a) for a in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        return f"a tuple of {_words(arguments[0]).split()[-1]}s"
    name = str(getattr(hint, "__name__", hint))
    return _WORDS.get(hint, f"{'an' if name[0] in 'AEIOU' else 'a'} {name}")
