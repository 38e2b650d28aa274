"""Options of a command, taken from its dataclass: each field is an option, its docstring the help.

A command declares how a field is written on the command line with `Annotated[type, Arg(...)]`;
without it, the flag is the field's name with dashes. A field that is a dataclass itself adds its
fields as a group of options.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from recon.errors import ReconError, shortened
from recon.reporting import STDOUT
from recon.scene_extensions import POINT_CLOUD_EXTENSIONS_TEXT, SCENE_EXTENSIONS_TEXT

NAMES = {int: "a whole number", float: "a number"}
METAVARS = {int: "N", float: "X", Path: "FILE", str: "TEXT"}

# Numbers beyond are mistakes, and more than some libraries take; so is NaN.
MAX_NUMBER = 1e18


class UsageError(ReconError):
    """An option is unknown, has a wrong value, or does not go with the others or the input."""


@dataclass(frozen=True)
class Arg:
    """How a field of a command is spelt on the command line."""

    positional: bool = False
    """The value stands by itself, without a flag."""
    flags: tuple[str, ...] = ()
    """All spellings, the shown one last; by default the field's name with dashes."""
    metavar: str = ""
    """Name of the value in usage and help."""
    bare: str | None = None
    """Value that a bare flag stands for; by default a value is required."""
    replaces: tuple[str, ...] = ()
    """Former spellings, which end with an error that names the present one."""
    title: str = ""
    """Heading of the group of options: this one and the next ones, or those of a dataclass."""


POSITIONAL = Arg(positional=True)
OUTPUT = Arg(flags=("-o", "--output"), metavar="OUT")
# `--json` prints the result on standard output, `--json FILE` writes it to the file.
JsonOutput = Annotated[Path | None, Arg(bare=str(STDOUT), metavar="[FILE]")]


@dataclass(frozen=True)
class Option:
    """One option or positional argument of a command."""

    path: tuple[str, ...]
    """Names of the fields that lead to it, the last its own."""
    kind: Any
    """Type of one value: int, float, str, Path, bool or a Literal."""
    many: bool
    """Whether it takes any number of values."""
    default: Any
    """`dataclasses.MISSING` if a value is required."""
    text: str
    """Its docstring."""
    arg: Arg
    group: str

    @property
    def flags(self) -> tuple[str, ...]:
        """The spellings of an option; for a switch that is on by default, both directions."""
        flags = self.arg.flags or ("--" + self.path[-1].replace("_", "-"),)
        return (flags[0], "--no-" + flags[0][2:]) if self.default is True else flags

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is dataclasses.MISSING

    @property
    def metavar(self) -> str:
        """Placeholder of a value in usage and help."""
        if self.kind is bool:
            return ""
        if self.arg.metavar:
            return self.arg.metavar
        if typing.get_origin(self.kind) is typing.Literal:
            return "|".join(map(str, typing.get_args(self.kind)))
        return self.path[-1].upper() if self.arg.positional else METAVARS[self.kind]

    @property
    def name(self) -> str:
        """The name in messages: the long flag, or that of the value."""
        return self.metavar if self.arg.positional else self.flags[-1]

    def parse(self, text: str) -> Any:
        """Return the value that a word stands for.

        Raises:
            UsageError: naming the flag, what was expected and what was found.
        """
        choices = typing.get_args(self.kind)
        if not text.strip():
            raise UsageError(f"{self.name}: expected {self.metavar}, found an empty text")
        if choices:
            for choice in choices:
                if str(choice) == text:
                    return choice
            listed = ", ".join(map(str, choices))
            raise UsageError(f"{self.name}: expected one of {listed}, found {shortened(text)}")
        expected = NAMES.get(self.kind)
        try:
            value = self.kind(text)
        except ValueError:
            raise UsageError(f"{self.name}: expected {expected}, found {shortened(text)}") from None
        if expected is not None and not abs(value) <= MAX_NUMBER:
            raise UsageError(
                f"{self.name}: expected {expected} from {-MAX_NUMBER:g} to {MAX_NUMBER:g}, found "
                f"{shortened(text)}"
            )
        return value


def refuse_idle(command: Any, fields: Iterable[str], why: str) -> None:
    """Raise UsageError for the first of some options that is given, but would have no effect.

    Args:
        command: The dataclass of the options.
        fields: Names of fields; those that have their default value count as not given.
        why: What the option has no effect on, or when.
    """
    names = tuple(fields)
    for option in options_of(type(command)):
        if option.path[0] in names and getattr(command, option.path[0]) != option.default:
            raise UsageError(f"{option.name} has no effect {why}; omit it")


def nested_type(command: type, field: str) -> Any:
    """Return the dataclass that is the type of this field of a command."""
    kind = typing.get_type_hints(command)[field]
    assert dataclasses.is_dataclass(kind)
    return kind


def options_of(
    command: type, path: tuple[str, ...] = (), group: str = "Options"
) -> Iterator[Option]:
    """Yield the options of a command, those of nested dataclasses in place of their field."""
    hints = typing.get_type_hints(command, include_extras=True)
    texts = field_docstrings(command)
    for field in dataclasses.fields(command):
        kind, arg = hints[field.name], Arg()
        if typing.get_origin(kind) is Annotated:
            kind, *extras = typing.get_args(kind)
            arg = next((extra for extra in extras if isinstance(extra, Arg)), arg)
        here = (*path, field.name)
        if dataclasses.is_dataclass(kind):
            yield from options_of(typing.cast(type, kind), here, arg.title or field.name)
            continue
        group = arg.title or group
        kind, many = _value_type(kind)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        yield Option(here, kind, many, default, texts.get(field.name, ""), arg, group)


def _value_type(kind: Any) -> tuple[Any, bool]:
    """Return the type of one value, without `| None`, and whether there may be many."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0], True
    return kind, False


@functools.cache
def field_docstrings(cls: type) -> dict[str, str]:
    """Return the string below each field of a dataclass, on one line, by the field's name.

    `{scene_extensions}` and `{point_cloud_extensions}` become lists of extensions.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                text = " ".join(str(below.value.value).split())
                text = text.replace("{scene_extensions}", SCENE_EXTENSIONS_TEXT)
                text = text.replace("{point_cloud_extensions}", POINT_CLOUD_EXTENSIONS_TEXT)
                found[field.target.id] = text
    return found
