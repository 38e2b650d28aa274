"""Helpers that several panels use."""

from typing import Any

import viser


def set_value(control: Any, value: Any) -> None:
    """Set the value of a control, which viser allows but does not declare in its types."""
    control.value = value


def notify(client: viser.ClientHandle | None, text: str) -> None:
    """Show a short notification in one browser."""
    if client is not None:
        client.add_notification("recon", text, auto_close_seconds=4.0)
