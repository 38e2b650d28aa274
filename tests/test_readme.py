"""The code in README.md runs, and its commands parse."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from recon.cli.main import COMMANDS as KINDS
from recon.cli.main import DEFAULT
from recon.cli.parser import parse

README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^recon (.*?)(?: +#.*)?$", README, re.MULTILINE)
LINKS = re.findall(r"\]\(([^):#]+)\)", README)


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.splitlines()[-1][:20])
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    if "scene" in names:
        assert (tmp_path / "scene.ply").is_file()
        assert names["image"].shape == (3, 96, 128)
        assert names["depth"].shape == (96, 128)


def test_first_example_is_ten_lines() -> None:
    assert len([line for line in PYTHON[0].splitlines() if line]) <= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_command_parses(command: str) -> None:
    assert len(COMMANDS) >= 10
    words = shlex.split(command)
    name, words = (words[0], words[1:]) if words[0] in KINDS else (DEFAULT, words)
    module, kind, _ = KINDS[name]
    parse(getattr(importlib.import_module(module), kind), words)


def test_links_lead_somewhere() -> None:
    for link in LINKS:
        assert (ROOT / link).exists(), link
