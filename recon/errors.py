"""Errors that a user can correct.

The command line prints them as one line and exits with code 2.
"""


class ReconError(Exception):
    """Base of all errors that a user can correct.

    The message says on a single line what is wrong and where, what was expected, what was
    found, and what to do about it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class InputError(ReconError):
    """A file, a folder or a capture cannot be used."""


class ConfigError(ReconError):
    """A setting has a wrong value.

    The message calls settings by the names of their fields; `fields` lists these names, so that
    the command line can print its flags instead.
    """

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields

    @property
    def field(self) -> str | None:
        """The first of the fields, if any is named."""
        return self.fields[0] if self.fields else None


class MissingDependency(ReconError):
    """An optional package is not installed; the message holds the pip command."""
