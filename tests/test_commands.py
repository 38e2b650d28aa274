"""Every command and every Python program in the documentation is parsed; those of tutorials run."""

import argparse
import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from conftest import ROOT
from test_docs import PAGES, name

from recon.cli.arguments import UsageError
from recon.cli.main import COMMANDS, DEFAULT
from recon.cli.parser import parse
from recon.cli.train import Train
from recon.errors import ConfigError
from training.config import check_config, read_config

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(recon [^`]+)`")
# A synopsis such as `recon data convert FOLDER|LIST [--option]` is no command.
SYNOPSIS = re.compile(r"[\[\]|]|\.\.\.|\b(INPUT|N)\b")
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def commands(text: str) -> list[str]:
    """Return the lines of the code blocks of a page that start programs, without comments."""
    found = []
    for language, block in BLOCK.findall(text):
        if language in ("", "bash", "sh"):
            lines = [
                re.sub(r"\s+#.*$", "", line) for line in block.replace("\\\n", " ").splitlines()
            ]
            found += [part.strip() for line in lines for part in line.split("&&")]
    words = ("recon ", "python ", "make ", "pip ", "accelerate ")
    found += [line for line in INLINE.findall(text) if " -o " in line and "\n" not in line]
    return [line for line in found if line.startswith(words) and not SYNOPSIS.search(line)]


def check(command: str) -> None:
    """Raise an exception if a command cannot be one."""
    words = shlex.split(command)
    while "=" in words[0]:
        words.pop(0)
    program, words = words[0], words[1:]
    if program == "accelerate":
        assert words[0] == "launch" and "-m" in words
        program, words = "python", words[words.index("-m") :]
    if program == "recon" or (program == "python" and words[:2] == ["-m", "recon"]):
        check_recon(words if program == "recon" else words[2:])
    elif program == "python" and words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None, f"no module {words[1]}"
        if words[1].startswith("training."):
            check_program(words[1], words[2:])
    elif program == "python" and words[0].endswith(".py"):
        assert (ROOT / words[0]).is_file(), f"no file {words[0]}"
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in words:
            assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target


def check_recon(words: list[str]) -> None:
    """Parse the words after `recon` into the dataclass of their command."""
    if words in (["--help"], []):
        return
    two = " ".join(words[:2])
    key = two if two in COMMANDS else words[0] if words[0] in COMMANDS else DEFAULT
    rest = words[len(key.split()) :] if key != DEFAULT or words[0] == DEFAULT else words
    module, kind, _ = COMMANDS[key]
    command = parse(getattr(importlib.import_module(module), kind), rest)
    if isinstance(command, Train):
        config = None if command.config is None else ROOT / command.config
        check_config(read_config(config, command.assignments))


class Parsed(Exception):
    """The words of a program are right; nothing else of it runs."""


def check_program(module: str, words: list[str]) -> None:
    """Parse the words after `python -m training. ...` with the program's own parser."""

    def stopping(parse_known):  # noqa: ANN001, ANN202
        def parse_and_stop(parser: argparse.ArgumentParser, *arguments: object) -> NoReturn:
            _, unknown = parse_known(parser, *arguments)
            if unknown:
                parser.error(f"unknown: {' '.join(unknown)}")
            raise Parsed

        return parse_and_stop

    package = importlib.util.find_spec(module).submodule_search_locations is not None
    program = importlib.import_module(f"{module}.__main__" if package else module)
    parser = argparse.ArgumentParser
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(parser, "parse_args", stopping(parser.parse_known_args))
        patch.setattr(parser, "parse_intermixed_args", stopping(parser.parse_known_intermixed_args))
        program.main(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        try:
            check(command)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{name(page)}: {command}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_compiles(page: Path) -> None:
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            compile(block, name(page), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=name)
def test_programs_of_tutorials_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, page.name, "exec"), {"__name__": "tutorial"})


def test_wrong_commands_are_found() -> None:
    text = "```\nrecon a -o b.ply --no-such-option  # text\nmake nothing\nls\n```\n"
    found = commands(text + "`recon convert a.ply -o b` and `recon INPUT -o OUT`")
    assert found == ["recon a -o b.ply --no-such-option", "make nothing",
                     "recon convert a.ply -o b"]  # fmt: skip
    check("recon view scene.ply")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("recon a -o b.ply --no-such-option", UsageError),
        ("recon train dataset.captures.weigth=0.5", ConfigError),
        ("recon train --config configs/cost_volume.yaml optimiser.steps=-1", ConfigError),
        ("accelerate launch -m recon train optimiser.lrr=1", ConfigError),
        ("make nothing", AssertionError),
        ("python x.py", AssertionError),
        ("python -m training.nothing", AssertionError),
        ("python -m training.baselines.compare a.yaml --no-such-option", SystemExit),
        ("python -m training.campaign --minutes much", SystemExit),
        ("python -m training.evaluation.surfaces", SystemExit),
    ],
)
def test_wrong_words_are_found(command: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        check(command)


def test_workflows_are_valid_yaml() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        assert all("runs-on" in job and job["steps"] for job in jobs.values()), path
