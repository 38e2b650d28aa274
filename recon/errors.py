"""Errors that a user can correct, and warnings of what was left out, guessed or changed.

The command line prints each as one line; after an error it exits with code 2.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

# Names that a message lists before it counts the rest; letters of a wrong value that it repeats.
MAX_LISTED, MAX_SHOWN = 5, 60
# Similarity (difflib) from which a word is taken for a misspelt one; letters of an abbreviation.
MIN_SIMILARITY, MIN_PREFIX = 0.75, 3


class ReconError(Exception):
    """Base of all errors that a user can correct.

    The message says on a single line what is wrong and where, what was expected, what was
    found, and what to do about it. It calls settings by the names of their fields or arguments;
    `fields` lists these names, so that the command line can print its flags instead.
    """

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(" ".join(message.split()))
        self.fields = fields


class InputError(ReconError):
    """A file, a folder or a capture cannot be used."""


class ConfigError(ReconError):
    """A setting has a wrong value."""

    @property
    def field(self) -> str | None:
        """The first of the fields, if any is named."""
        return self.fields[0] if self.fields else None


class MissingDependency(ReconError):
    """An optional package is not installed; the message holds the pip command."""


class ReconWarning(UserWarning):
    """Something was left out, guessed or changed, and the result may not be what was expected.

    `fields` lists the settings that the message names, as those of a ReconError.
    """

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(" ".join(message.split()))
        self.fields = fields


class LeftOutWarning(ReconWarning):
    """A photo or a video that was given is not used; `strictly` makes it an error."""


def warn(
    message: str, category: type[ReconWarning] = ReconWarning, fields: Iterable[str] = ()
) -> None:
    """Warn that something was left out, guessed or changed.

    The message says on a single line what and where, and what to do about it. A program receives
    it as a Python warning; the command line prints it once and adds it to the object of `--json`.

    Args:
        message: One sentence or several.
        category: Kind of the warning.
        fields: The settings that the message names, for which the command line has flags.
    """
    warnings.warn(category(message, *fields), stacklevel=2)


def shortened(value: object, quoted: bool = True) -> str:
    """Return a value for a message, cut if it is very long.

    Args:
        value: The value.
        quoted: Put text in quotes; what has odd characters is put in quotes in any case.
    """
    text = str(value)
    text = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    is_quoted = quoted and isinstance(value, str)
    return repr(text) if is_quoted or not text.isprintable() else text


@contextmanager
def strictly(strict: bool) -> Iterator[None]:
    """Raise InputError instead of each LeftOutWarning, if `strict`."""
    with warnings.catch_warnings():
        if strict:
            warnings.simplefilter("error", LeftOutWarning)
        try:
            yield
        except LeftOutWarning as warning:
            text = f"{warning}; this stops, since strict=True is given"
            raise InputError(text, *warning.fields, "strict") from None


def listed(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are: "a, b, c, d, e and 3 more"."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def counted(number: int, word: str) -> str:
    """Return a number with its noun: "1 photo", "3 photos"."""
    return f"{number} {word}" if number == 1 else f"{number:,} {word}s"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" for a misspelt or abbreviated name, else an empty text."""
    # Here, since `import recon` must be quick.
    import difflib

    names = {name.lower().lstrip("-"): name for name in known}
    given = word.lower().lstrip("-")
    close: Sequence[str] = difflib.get_close_matches(given, names, 1, MIN_SIMILARITY)
    if not close and len(given) >= MIN_PREFIX:
        # The beginning of one name only, or one of its words: --res, --gaussians.
        close = [n for n in names if n.startswith(given) or given in n.split("-")]
    return f"; did you mean {names[close[0]]}?" if len(close) == 1 else ""
