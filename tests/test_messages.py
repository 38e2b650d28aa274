"""Messages speak of fields in the library, and of flags on the command line."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def parsed(command: str, words: str) -> Any:
    """Return a command as the command line reads it."""
    module, name, _ = COMMANDS[command]
    return parse(getattr(importlib.import_module(module), name), words.split())


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
    ("command", "words", "told"),
    [
        (
            "reconstruct",
            ". -o s.ply --time 3m --refine 10",
            "--time and --refine exclude each other",
        ),
        ("reconstruct", ". -o s.ply --time 3m --refine 20s", "--time and --refine exclude"),
        (
            "reconstruct",
            ". -o s.ply --refine 0 --prune 0.5",
            "--prune has no effect without the opt",
        ),
        ("reconstruct", ". -o s.ply --refine 0 --refine-cameras", "--refine-cameras has no effect"),
        ("reconstruct", ". -o s.ply --refine 0 --keep-on-interrupt", "--keep-on-interrupt has no"),
        (
            "reconstruct",
            ". -o s.ply --camera-source given --no-cache",
            "--no-cache has no effect on",
        ),
        ("batch", "list.txt -o scenes --time 3m --refine 10", "--time and --refine exclude each"),
        ("eval", ". --time 3m --refine 10", "--time and --refine exclude each other"),
        ("eval", ". --gps", "--gps has no effect on the scores of recon eval; omit it"),
        (
            "render",
            "a.ply -o f.png --path orbit --num-frames 5",
            "no effect on f.png, which is one",
        ),
        ("render", "a.ply -o f.png --resume", "--resume has no effect on f.png"),
        ("render", "a.ply -o f.png --fps 10", "--fps has no effect on f.png, which is no video"),
        ("render", "a.ply -o images --fps 10", "--fps has no effect on images, which is no video"),
        ("render", "a.ply -o f.png --image-format jpg", "--image-format has no effect on f.png"),
        ("render", "a.ply -o v.mp4 --image-format jpg", "--image-format has no effect on v.mp4"),
        ("render", "a.ply -o v.mp4 --path cameras --num-frames 9", "--num-frames has no effect on"),
        ("render", "a.ply -o f.png --depth --background white", "--background has no effect on d"),
        ("render", "a.ply -o f.exr --background white", "--background has no effect on images"),
        ("convert", "a.ply -o b.ply --cameras c --scale-between 0,0,0 1,0,0 2", "or a photo in"),
        ("compress", "a.ply -o b.sog --max-views 3", "--max-views has no effect without photos"),
        ("compress", "a.ply -o b.sog --resolution 64", "--resolution has no effect without photos"),
        ("view", "a.ply --static page --port 9000", "--port has no effect with --static"),
        ("view", "a.ply --static page --open", "--open has no effect with --static"),
        ("bench", "raster --batch 2", "--batch has no effect on recon bench raster"),
        ("bench", "model --degrees 0", "--degrees has no effect on recon bench model"),
        ("doctor", "--fix --json", "--fix and --json exclude each other"),
        ("clean", "a.ply -o b.ply --object --sky sphere", "--object keeps no sky and excludes"),
    ],
)
def test_options_without_effect_are_refused(command: str, words: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parsed(command, words).run()


@pytest.mark.parametrize(
    "options",
    [
        "--time 3m --refine 0",
        "--time 3m --quality draft",
        "--refine 10 --prune 0.5",
        "--refine 0 --prune 0",
    ],
)
def test_options_that_go_together(options: str) -> None:
    parsed("reconstruct", f". -o s.ply {options}").options.config()


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
    with pytest.raises(UsageError, match="--"):
        parsed(command, words).run()
