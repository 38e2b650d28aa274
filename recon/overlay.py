"""Changes of configurations (frozen dataclasses) by nested mappings, such as YAML or JSON."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

import dacite

from recon.errors import ConfigError, did_you_mean

T = TypeVar("T")
# Types of fields in messages.
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
SEVERAL = {int: "whole numbers", float: "numbers", str: "texts"}


def overlay(config: T, changes: Mapping[str, Any], where: str) -> T:
    """Return a configuration with some fields changed; nested mappings change nested fields.

    Mappings that are fields are merged likewise: entries that `changes` does not name remain.

    Args:
        config: A dataclass, whose fields may be dataclasses.
        changes: New values by field name. Lists become tuples, and whole numbers become floats.
        where: Origin of the changes, such as a file, with which error messages begin.

    Raises:
        ConfigError: A field does not exist (the message names the nearest one), or a value has
            the wrong type.
    """
    merged = _merge(config, changes, where, "")
    try:
        return dacite.from_dict(type(config), merged, dacite.Config(cast=[tuple], strict=True))
    except dacite.WrongTypeError as error:
        raise ConfigError(f"{where}: {_wrong_type(error)}") from None


def _wrong_type(error: dacite.WrongTypeError) -> str:
    """Say which field has a wrong type; in a mapping, which entry."""
    path, kind, value = error.field_path, error.field_type, error.value
    if get_origin(kind) is dict and isinstance(value, Mapping):
        numbers = get_args(kind)[1] is float
        for key, entry in value.items():
            if not isinstance(entry, int | float if numbers else Mapping):
                expected = "be a number" if numbers else "hold named values"
                return f"{path}.{key} must {expected}, found {entry!r}"
    return _problem(path or "", kind, value)


def _problem(path: str, kind: Any, value: Any) -> str:
    """Say what a field must be, and what it is."""
    found = list(value) if isinstance(value, tuple) else value
    return f"{path} must be {_expected(kind)}, found {'nothing' if value is None else repr(found)}"


def _expected(kind: Any) -> str:
    """Return the values of a type in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is dict:
        return "named values, such as {name: value}"
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        what = SEVERAL.get(parts[0], "values")
        return f"a list of {what}" if Ellipsis in parts else f"a list of {len(parts)} {what}"
    return WORDS.get(kind) or str(getattr(kind, "__name__", kind))


def _merge(config: Any, changes: Any, where: str, path: str) -> dict[str, Any]:
    """Merge a configuration and its changes into nested dictionaries."""
    if not isinstance(changes, Mapping):
        raise ConfigError(
            f"{where}: {path.rstrip('.') or 'the file'} must hold named values, found {changes!r}"
        )
    known = {f.name: getattr(config, f.name) for f in fields(config)}
    kinds = {f.name: f.type for f in fields(config)}
    for key in changes:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"; known: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {path}{key}{hint}")
    merged: dict[str, Any] = {}
    for key, value in known.items():
        if key not in changes:
            merged[key] = asdict(value) if is_dataclass(value) else value  # type: ignore[arg-type]
        elif is_dataclass(value):
            merged[key] = _merge(value, changes[key], where, f"{path}{key}.")
        else:
            if get_origin(kinds[key]) is tuple and not isinstance(changes[key], list | tuple):
                # A text would become a list of its letters.
                raise ConfigError(f"{where}: {_problem(f'{path}{key}', kinds[key], changes[key])}")
            merged[key] = _converted(merge_mappings(value, changes[key]), value, kinds[key])
    return merged


def _converted(new: Any, old: Any, kind: Any) -> Any:
    """Return whole numbers as floats where a float is expected: YAML writes 1 for 1.0."""
    if isinstance(old, float) and type(new) is int:
        return float(new)
    if kind == tuple[float, float] and isinstance(new, list | tuple):
        return tuple(float(value) if type(value) is int else value for value in new)
    if kind == dict[str, float] and isinstance(new, Mapping):
        return {key: float(value) if type(value) is int else value for key, value in new.items()}
    return new


def merge_mappings(old: Any, new: Any) -> Any:
    """Return `new`, laid over `old` where both are mappings, at every level."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: merge_mappings(old.get(key), value) for key, value in new.items()}}
