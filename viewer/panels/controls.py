"""Helpers that several panels use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import viser

from recon.errors import ReconError


def set_value(control: Any, value: Any) -> None:
    """Set the value of a control, which viser allows but does not declare in its types."""
    control.value = value


def notify(client: viser.ClientHandle | None, text: str) -> None:
    """Show a short notification in one browser."""
    if client is not None:
        client.add_notification("recon", text, auto_close_seconds=4.0)


@contextmanager
def telling_errors(client: viser.ClientHandle) -> Iterator[None]:
    """Show in the browser why a file could not be made; the terminal may be out of sight."""
    try:
        yield
    except (ReconError, OSError) as error:
        notify(client, str(error))
