"""Parse a command line into the dataclass of its command.

argparse splits the words; values are converted and missing ones named here, so that every mistake
is a UsageError that says which flag, what was expected and what was found.
"""

import argparse
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from recon.cli.arguments import Option, UsageError, nested_type, options_of
from recon.errors import did_you_mean

Command = TypeVar("Command")
NUMBER = re.compile(r"-\.?\d")


def parse(command: type[Command], words: Sequence[str]) -> Command:
    """Return the command with the values of a command line.

    Raises:
        UsageError: the words do not fit the command's options.
    """
    options = list(options_of(command))
    named = [option for option in options if not option.arg.positional]
    try:
        values, rest = _splitter(named).parse_known_args(_with_bare_flags(words, named))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {_explained(error)}") from None
    given = {tuple(path.split(".")): value for path, value in vars(values).items()}
    _check_flags(rest, named)
    found = {o.path: _converted(o, given[o.path]) for o in named if o.path in given}
    found |= _positional(options, _positional_words(options, found, rest))
    _check_complete(options, found)
    return _build(command, found)


def _explained(error: argparse.ArgumentError) -> str:
    """Return what is wrong with a flag, and how to pass what argparse takes for another flag."""
    if error.message != "expected one argument":
        return error.message
    flag = (error.argument_name or "").split("/")[-1]
    return f"expected a value, found none; pass one that begins with a dash as {flag}=VALUE"


def _with_bare_flags(words: Sequence[str], options: list[Option]) -> list[str]:
    """Return the words with `--json` filled in where the next word is not a .json file.

    In `--json scene.ply` the scene is an input, which must not be taken for the file to write.
    """
    bare = {flag: o.arg.bare for o in options for flag in o.flags if o.arg.bare is not None}
    filled = list(words)
    for i, word in enumerate(words[:-1]):
        if word in bare and not words[i + 1].lower().endswith(".json"):
            filled[i] = f"{word}={bare[word]}"
    return filled


def _splitter(options: list[Option]) -> argparse.ArgumentParser:
    """Return an argparse parser that gives the words of each option as they are."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
    )
    # Points such as -1,0,0 are values; argparse knows only numbers such as -1.
    parser._negative_number_matcher = NUMBER
    for option in options:
        destination = ".".join(option.path)
        flags = option.flags
        if option.kind is bool:
            for flag in flags:
                # --no-cache is a name of its own, which switches nothing off that is called cache.
                value = option.default is False or flag == flags[0]
                parser.add_argument(flag, dest=destination, action="store_const", const=value)
        elif option.many:
            parser.add_argument(*flags, dest=destination, nargs="*")
        elif option.arg.bare is not None:
            parser.add_argument(*flags, dest=destination, nargs="?", const=option.arg.bare)
        else:
            parser.add_argument(*flags, dest=destination)
    return parser


def _check_flags(rest: list[str], options: list[Option]) -> None:
    """Raise UsageError for a flag that no option has."""
    for word in rest[: rest.index("--")] if "--" in rest else rest:
        flag = word.partition("=")[0]
        if not flag.startswith("-") or flag == "-" or NUMBER.match(flag):
            continue
        for option in options:
            if flag in option.arg.replaces:
                raise UsageError(f"{flag} is now called {option.name}")
        known = [flag for option in options for flag in option.flags]
        raise UsageError(f"unknown option {flag}{did_you_mean(flag, known)}")


def _converted(option: Option, words: Any) -> Any:
    if option.kind is bool:
        return words
    return tuple(map(option.parse, words)) if option.many else option.parse(words)


def _positional_words(
    options: list[Option], found: dict[tuple[str, ...], Any], rest: list[str]
) -> list[str]:
    """Return the words without a flag.

    `--json INPUT -o OUT` means a bare `--json` when the input is missing otherwise; then INPUT
    is taken back from it.
    """
    words = [word for word in rest if word != "--"]
    needed = sum(option.arg.positional and option.required for option in options)
    for option in options:
        if len(words) < needed and option.arg.bare is not None and option.path in found:
            value = str(found[option.path])
            if value != option.arg.bare:
                found[option.path] = option.parse(option.arg.bare)
                words.insert(0, value)
    return words


def _positional(options: list[Option], words: list[str]) -> dict[tuple[str, ...], Any]:
    """Return the values of the positional arguments, in order; the last one may take many."""
    found: dict[tuple[str, ...], Any] = {}
    for option in options:
        if option.arg.positional and words:
            taken = words if option.many else words[0]
            found[option.path] = _converted(option, taken)
            words = [] if option.many else words[1:]
    if words:
        raise UsageError(f"unexpected argument {words[0]!r}")
    return found


def _check_complete(options: list[Option], found: dict[tuple[str, ...], Any]) -> None:
    """Raise UsageError unless every option without a default has a value."""
    missing = [
        option.metavar if option.arg.positional else f"{', '.join(option.flags)} {option.metavar}"
        for option in options
        if option.required and option.path not in found
    ]
    if missing:
        raise UsageError(f"missing {' and '.join(missing)}")


def _build(command: type[Command], found: dict[tuple[str, ...], Any]) -> Command:
    """Return the dataclass, and those inside of it, from values by path."""
    values: dict[str, Any] = {}
    nested: dict[str, dict[tuple[str, ...], Any]] = {}
    for path, value in found.items():
        if len(path) == 1:
            values[path[0]] = value
        else:
            nested.setdefault(path[0], {})[path[1:]] = value
    for name, below in nested.items():
        values[name] = _build(nested_type(command, name), below)
    return command(**values)
