"""Messages speak of fields in the library, and of flags on the command line."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from recon.cli.arguments import UsageError
from recon.cli.main import COMMANDS
from recon.cli.parser import parse

ROOT = Path(__file__).resolve().parent.parent
COMMAND_LINE = [ROOT / "recon" / "cli", ROOT / "recon" / "reporting.py"]
FLAG = re.compile(r"(?<![\w-])--[a-z]")
# Commands of others that a message may advise.
OF_OTHERS = ("usdcat --flatten", "ray start --head")
# What a command may raise itself: of options, of files, of packages.
RAISED = {"UsageError", "InputError", "MissingDependency", "SystemExit"}


def library() -> Iterator[Path]:
    for package in ("render", "recon"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if not {path, *path.parents} & set(COMMAND_LINE):
                yield path


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a file that are no docstrings."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and not isinstance(node, ast.Expr):
                yield str(child.value)


def test_the_library_names_no_flags() -> None:
    for path in library():
        for text in texts(ast.parse(path.read_text())):
            for command in OF_OTHERS:
                text = text.replace(command, "")
            assert not FLAG.search(text), f"{path.relative_to(ROOT)}: {text}"


def test_commands_raise_one_class_for_options() -> None:
    for path in (ROOT / "recon" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                if name.endswith(("Error", "Dependency", "Exit")):
                    assert name in RAISED, f"{path.name}:{node.lineno} raises {name}"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("batch", "captures -o scenes --processes 0"),
        ("batch", "captures -o scenes --extension .obj"),
        ("bench", "--views 0"),
        ("convert", "a.ply -o b.ply --sh-degree 9"),
        ("data render-meshes", "models -o shards --timeout 0"),
        ("eval", "capture --every 1"),
        ("mesh", "a.ply -o b.obj --faces 2"),
        ("mesh", "a.ply -o b.ply --texture 512"),
        ("render", "a.ply -o b.png --panorama --size 640x480"),
        ("view", "a.ply --port 0"),
    ],
)
def test_wrong_options_are_of_one_class(command: str, words: str) -> None:
    module, name, _ = COMMANDS[command]
    parsed = parse(getattr(importlib.import_module(module), name), words.split())
    with pytest.raises(UsageError, match="--"):
        parsed.run()
