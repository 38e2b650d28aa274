"""Text of `--help`: usage, description, and the options in two columns."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recon.cli.arguments import Option, options_of

MAX_WIDTH = 100
COLUMN = 26


def help_text(program: str, command: type, others: Mapping[str, str] | None = None) -> str:
    """Return the help of a command; `others` are commands to list, with one line of help each."""
    options = list(options_of(command))
    summary = (command.__doc__ or "").strip().splitlines()[0]
    parts = [f"usage: {usage(program, options)}", textwrap.fill(summary, _width())]
    if others:
        parts.append(_section("Commands (see recon COMMAND --help)", others))
    groups: dict[str, dict[str, str]] = {}
    for option in options:
        title = "Arguments" if option.arg.positional else option.group
        groups.setdefault(title, {})[_invocation(option)] = _description(option)
    list(groups.values())[-1]["-h, --help"] = "Show this help."
    parts += [_section(title, rows) for title, rows in groups.items()]
    return "\n\n".join(parts) + "\n"


def _width() -> int:
    """Return the width of the terminal, up to one that is easy to read."""
    return min(MAX_WIDTH, shutil.get_terminal_size().columns)


def usage(program: str, options: Iterable[Option]) -> str:
    """Return the usage line: arguments, required options, and a note that there are others."""
    words = [program]
    for option in options:
        if option.arg.positional:
            word = f"{option.metavar} [{option.metavar} ...]" if option.many else option.metavar
            words.append(word if option.required else f"[{option.metavar}{' ...' * option.many}]")
    words += [f"{o.flags[0]} {o.metavar}" for o in options if o.required and not o.arg.positional]
    return " ".join([*words, "[options]"])


def _invocation(option: Option) -> str:
    if option.arg.positional:
        return option.metavar
    many = " ..." if option.many else ""
    return f"{', '.join(option.flags)} {option.metavar}{many}".rstrip()


def _description(option: Option) -> str:
    default = _default(option.default)
    if option.required:
        return option.text + (" Required." if not option.arg.positional else "")
    return f"{option.text} [default: {default}]" if default else option.text


def _default(value: Any) -> str:
    """Return a default as a user would type it; empty for one that is not a value."""
    if isinstance(value, bool):
        return "on" if value else ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value) if isinstance(value, int | float | str | Path) else ""


def _section(title: str, rows: Mapping[str, str]) -> str:
    """Return a heading and rows of two columns; a long first column has a line of its own."""
    lines = [f"{title}:"]
    for name, text in rows.items():
        first = f"  {name:<{COLUMN - 4}}  "
        if len(first) > COLUMN:
            lines.append(f"  {name}")
            first = " " * COLUMN
        lines.append(
            textwrap.fill(
                text, _width(), initial_indent=first, subsequent_indent=" " * COLUMN,
                break_long_words=False, break_on_hyphens=False,
            ).rstrip()
        )  # fmt: skip
    return "\n".join(lines)
