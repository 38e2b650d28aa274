"""Shapes and types of arguments are checked in tests, in the first calls of each."""

import pytest
import shape_checks
import torch
from jaxtyping import TypeCheckError

from render import Cameras
from render.quaternions import quats_to_rotmats


@pytest.mark.parametrize("again", range(2))
def test_first_calls_of_every_test_are_checked(again: int) -> None:
    for _ in range(shape_checks.CHECKED_CALLS - 1):
        quats_to_rotmats(torch.ones(5, 4))
    with pytest.raises(TypeCheckError):
        quats_to_rotmats(torch.ones(5, 3))
    # Not checked any more: torch finds the mistake.
    with pytest.raises(Exception, match="unpack") as end:
        quats_to_rotmats(torch.ones(5, 3))
    assert not isinstance(end.value, TypeCheckError)


def test_fields_of_dataclasses_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        Cameras(torch.eye(4)[None], torch.eye(4)[None], 8, 8)
    with pytest.raises(TypeCheckError):
        Cameras(torch.eye(4)[None], torch.eye(3)[None], "8", 8)
