"""Tests of the error classes and of how the command line prints them."""

import pytest

from recon import errors
from recon.cli.main import in_flags


@pytest.mark.parametrize("kind", [errors.InputError, errors.ConfigError, errors.MissingDependency])
def test_errors_have_one_base_and_one_line(kind: type[errors.ReconError]) -> None:
    error = kind("a message\n   over two lines")
    assert isinstance(error, errors.ReconError)
    assert str(error) == "a message over two lines"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            errors.ConfigError("max_views must be at least 1, got 0", "max_views"),
            "--max-views must be at least 1, got 0",
        ),
        (
            errors.ConfigError("device='cuda': no GPU; use device='cpu'", "device"),
            "--device cuda: no GPU; use --device cpu",
        ),
        (
            errors.ConfigError("no cameras in /cameras/x; use cameras='auto'", "cameras"),
            "no cameras in /cameras/x; use --camera-source auto",
        ),
        (
            errors.ConfigError("unknown model 'x'; use the model plane-sweep", "model"),
            "unknown model 'x'; use the model plane-sweep",
        ),
        (errors.ConfigError("model.size must be small", "model.size"), "--size must be small"),
        (errors.ConfigError("max_views must be at least 1"), "max_views must be at least 1"),
    ],
)
def test_command_line_prints_flags_for_fields(error: errors.ConfigError, text: str) -> None:
    assert in_flags(error) == text


def test_config_error_lists_its_fields() -> None:
    error = errors.ConfigError("steps and seconds exclude each other", "steps", "seconds")
    assert error.fields == ("steps", "seconds") and error.field == "steps"
    assert errors.ConfigError("wrong").field is None
