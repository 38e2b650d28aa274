"""The one exception for mistakes that the user can mend."""


class ReconError(Exception):
    """Wrong input or options: the CLI prints it as one line and exits with code 2.

    The text says what is wrong and where, what was expected, what was found and what
    to do about it, on a single line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
