"""Tests of the error classes and of how the command line prints them."""

import json
import re
import time
import warnings

import pytest

from recon import errors, reporting
from recon.cli.main import user_error
from recon.reporting import STDOUT, progress_reporter, telling_warnings, write_json


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
        (
            errors.InputError("no photo of a/gps has a position; leave out gps=True", "gps"),
            "no photo of a/gps has a position; leave out --gps",
        ),
        (errors.MissingDependency("ray: install x[ray]", "ray"), "--ray: install x[ray]"),
        (errors.InputError("ray=10.0.0.1:99: refused", "ray"), "--ray 10.0.0.1:99: refused"),
    ],
)
def test_command_line_prints_flags_for_fields(error: errors.ReconError, text: str) -> None:
    assert user_error(error) == text


def test_config_error_lists_its_fields() -> None:
    error = errors.ConfigError("steps and seconds exclude each other", "steps", "seconds")
    assert error.fields == ("steps", "seconds") and error.field == "steps"
    assert errors.ConfigError("wrong").field is None


def test_warnings_are_told_once_and_in_json(capsys) -> None:
    with telling_warnings():
        for _ in range(2):
            errors.warn("a.jpg is broken:\n  left out")
        errors.warn("b.jpg is broken")
        write_json({"photos": 3}, STDOUT)
    with telling_warnings():
        write_json({}, STDOUT)
    shown = capsys.readouterr()
    first, second = map(json.loads, shown.out.splitlines())
    told = ["a.jpg is broken: left out", "b.jpg is broken"]
    assert first == {"photos": 3, "warnings": told} and second == {"warnings": []}
    assert shown.err == "".join(f"recon: warning: {text}\n" for text in told)


def test_warnings_name_fields_and_the_command_line_flags(capsys) -> None:
    text = "b.jpg has no camera; pass source='solve' or invert_masks=True"
    fields = ["source", "invert_masks"]
    with pytest.warns(errors.LeftOutWarning, match=re.escape(text)):
        errors.warn(text, errors.LeftOutWarning, fields)
    flags = "b.jpg has no camera; pass --camera-source solve or --invert-masks"
    with telling_warnings():
        errors.warn(text, errors.LeftOutWarning, fields)
        with pytest.raises(errors.InputError) as stopped, errors.strictly(True):
            errors.warn(text, errors.LeftOutWarning, fields)
    assert capsys.readouterr().err == f"recon: warning: {flags}\n"
    assert user_error(stopped.value) == f"{flags}; this stops, since --strict is given"


def test_warnings_reach_a_program_as_python_warnings() -> None:
    with pytest.warns(errors.ReconWarning, match="^a b$"):
        errors.warn("a\nb")
    with telling_warnings(), pytest.warns(DeprecationWarning):
        warnings.warn("of another package", DeprecationWarning, stacklevel=1)


def test_long_lists_are_cut() -> None:
    assert errors.listed(["a", "b"]) == "a, b"
    assert errors.listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"


def test_progress_lines_tell_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(reporting, "LINE_EVERY_S", 0.05)
    with progress_reporter(quiet=False) as progress:
        progress("solving", 0.5)
        time.sleep(0.2)
    first, *later = capsys.readouterr().err.splitlines()
    assert first == "recon: solving" and later and set(later) == {"recon: solving: 0 s so far"}
    lines = reporting.ProgressLines()
    for fraction in (0.0, 0.25):
        lines("optimising", fraction)
    assert lines.line(40.0) == "optimising: 25 %, about 2 min left"
    assert [reporting.shown_time(s) for s in (12.4, 100.0, 9000.0)] == ["12 s", "2 min", "2.5 h"]
    exact = [reporting.shown_time(s, exact=True) for s in (0.25, 9.96, 199.9)]
    assert exact == ["0.25 s", "10 s", "3 min 19 s"]
