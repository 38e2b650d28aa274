"""The parser of the command line: dataclasses to options, mistakes to one line."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from recon.cli.arguments import OUTPUT, Arg, JsonOutput, UsageError
from recon.cli.help import help_text
from recon.cli.main import COMMANDS, main
from recon.cli.parser import parse
from recon.cli.reconstruct import Reconstruct
from recon.errors import ReconError
from recon.memory import out_of_memory_text
from recon.reporting import STDOUT, check_json


@dataclass(frozen=True)
class Inner:
    """Options of a group."""

    count: int = 3
    """Number of things."""
    keep: bool = True
    """Keep the things."""


@dataclass(frozen=True)
class Example:
    """Do something with a file."""

    source: Annotated[Path, Arg(positional=True)]
    """File to read."""
    output: Annotated[Path, OUTPUT]
    """File to write."""
    inner: Inner = field(default_factory=Inner)
    levels: tuple[Literal[0, 1, 2], ...] = (0, 1)
    """Levels to use."""
    mode: Annotated[Literal["fast", "slow"] | None, Arg(replaces=("--speed",))] = None
    """How to do it."""
    scale: float = 1.0
    """Factor, with a text that is long enough to need a second line in the help of a terminal."""
    json: JsonOutput = None
    """Print JSON."""


def test_values_reach_their_fields() -> None:
    words = "--count 5 in --no-keep --levels 2 0 -o out --mode slow --scale=-1.5 --json f.json"
    assert parse(Example, words.split()) == Example(
        Path("in"), Path("out"), Inner(5, False), (2, 0), "slow", -1.5, Path("f.json")
    )
    assert parse(Reconstruct, ["in", "-o", "out", "--no-cache"]).options.no_cache
    assert parse(Example, ["in", "--output=out"]) == Example(Path("in"), Path("out"))
    assert parse(Example, ["-o", "out", "--", "-in"]).source == Path("-in")


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("in -o out --json", STDOUT),
        ("in --json -o out", STDOUT),
        ("--json in -o out", STDOUT),
        ("in -o out --json out.json", Path("out.json")),
        ("--json=out.json in -o out", Path("out.json")),
        ("in -o out --json OUT.JSON", Path("OUT.JSON")),
        ("in -o out", None),
    ],
)
def test_json_with_and_without_a_file(words: str, output: Path | None) -> None:
    found = parse(Example, words.split())
    assert found.json == output and found.source == Path("in")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("in", "missing -o, --output OUT"),
        ("-o out", "missing SOURCE"),
        ("in -o out more", "unexpected argument 'more'"),
        (
            "in -o -x.ply",
            "-o/--output: expected a value, found none; pass one that begins with a dash as "
            "--output=VALUE",
        ),
        ("in -o out --count x", "--count: expected a whole number, found 'x'"),
        ("in -o out --scale x", "--scale: expected a number, found 'x'"),
        (
            "in -o out --scale 1e19",
            "--scale: expected a number from -1e+18 to 1e+18, found '1e19'",
        ),
        ("in -o out --mode x", "--mode: expected one of fast, slow, found 'x'"),
        ("in -o out --levels 1 7", "--levels: expected one of 0, 1, 2, found '7'"),
        ("in -o out --mod x", "unknown option --mod; did you mean --mode?"),
        ("in -o out --speed fast", "--speed is now called --mode"),
        ("in -o out --xyz", "unknown option --xyz"),
    ],
)
def test_mistakes_name_flag_expected_and_found(words: str, text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(Example, words.split())
    assert str(error.value) == text


def test_help_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert help_text("tool", Example) == (
        """\
usage: tool SOURCE -o OUT [options]

Do something with a file.

Arguments:
  SOURCE                  File to read.

Options:
  -o, --output OUT        File to write. Required.
  --levels 0|1|2 ...      Levels to use. [default: 0 1]
  --mode fast|slow        How to do it.
  --scale X               Factor, with a text that is long
                          enough to need a second line in
                          the help of a terminal. [default:
                          1.0]
  --json [FILE]           Print JSON.

inner:
  --count N               Number of things. [default: 3]
  --keep, --no-keep       Keep the things. [default: on]
  -h, --help              Show this help.
"""
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_plain(command: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    main([command, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: recon {command} ") and "None" not in text
    assert max(map(len, text.splitlines())) <= 80
    rows = [line for line in text.splitlines() if line.startswith("  -")]
    assert len(rows) == len({row.split()[0] for row in rows}), "each option once"


def test_no_cache_says_what_it_does(capsys) -> None:
    main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--no-cache Estimate the cameras again, even if" in text


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("./in -o out.ply --view", "--viewer"),
        ("./in -o out.ply --frames 9", "--video-frames"),
        ("train --view", "--viewer"),
        ("render s.ply -o v.png --view 3", "--camera-index"),
        ("render s.ply -o v.mp4 --frames 9", "--num-frames"),
        ("eval in --pictures x", "--save-renders"),
        ("eval in --table x.md", "--markdown"),
    ],
)
def test_former_flags_name_the_present_ones(words: str, name: str, capsys) -> None:
    former = next(word for word in words.split() if word.startswith("--"))
    with pytest.raises(SystemExit) as end:
        main(words.split())
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith(f"recon: error: {former} is now called {name} (see recon")
    assert error.count("\n") == 1


def test_json_is_not_written_over_a_folder(tmp_path: Path, capsys) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ReconError, match="it is a folder"):
        check_json(tmp_path / "photos")
    main(["doctor", "--json", f"{tmp_path}/d.json"])
    assert "torch" in json.loads((tmp_path / "d.json").read_text())
    assert "torch" in capsys.readouterr().out


def test_too_little_memory_is_one_line() -> None:
    import torch

    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    text = out_of_memory_text(error.value)
    assert text is not None and "not enough memory" in text and "\n" not in text
    assert "lower resolution" in str(out_of_memory_text(MemoryError()))
    assert out_of_memory_text(RuntimeError("another one")) is None
