"""The panels beside the picture, a folder each."""

from typing import Any


def put(control: Any, value: Any) -> None:
    """Set a control's value. viser's `value` can be assigned to, but is not typed so."""
    control.value = value
