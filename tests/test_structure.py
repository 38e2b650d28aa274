"""Structure of the project: import directions, no import cycles, file sizes, packaging."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGES = ("render", "recon", "training", "viewer")
# Who may import whom; recon.cli.main and recon.cli are the composition root.
ALLOWED = {
    "render": {"render"},
    "recon": {"render", "recon"},
    "training": {"render", "recon", "training"},
    "viewer": {"render", "recon", "viewer"},
}
ONLY_HERE = {
    "gsplat": "render/backends/cuda.py",
    "xformers": "recon/model/layers/attention.py",
    "viser": "viewer/",
    "pycolmap": "recon/capture/isolated/",
}
# Packages that recon.capture may import, and which therefore do without it.
BELOW_CAPTURES = (
    "recon.cleaning", "recon.compression", "recon.export", "recon.formats", "recon.fusion",
    "recon.model", "recon.optimisation", "recon.simplification",
)  # fmt: skip
MAX_LINES = 500
MAX_MEDIAN = 150
# Files under this length, apart from __init__.py and __main__.py, and how many there may be.
SHORT_LINES = 40
MAX_SHORT = 20
MAX_BYTES = 40_000_000


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> list[tuple[str, bool]]:
    """(top-level package, whether imported at module level) of every import."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module.split(".")[0], id(node) in top))
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    relative = path.relative_to(ROOT)
    root = relative.parts[:2] == ("recon", "cli")
    for package, at_top in imports(path):
        if package in PACKAGES and package not in ALLOWED[relative.parts[0]]:
            assert root and not at_top, f"{relative} imports {package}"
        if package in ONLY_HERE:
            assert relative.as_posix().startswith(ONLY_HERE[package]), (
                f"{relative} imports {package}"
            )


def test_file_sizes() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources()}
    lengths |= {path: len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    longest = max(lengths, key=lambda path: lengths[path])
    assert lengths[longest] <= MAX_LINES, f"{longest} has {lengths[longest]} lines"
    assert sorted(lengths.values())[len(lengths) // 2] <= MAX_MEDIAN


def test_few_files_are_short() -> None:
    """A file holds a topic; one that only another file uses belongs into that one."""
    short = [
        f"{path.relative_to(ROOT)}: {len(path.read_text().splitlines())}"
        for path in sources()
        if not path.name.startswith("__") and len(path.read_text().splitlines()) < SHORT_LINES
    ]
    assert len(short) <= MAX_SHORT, "\n".join(short)


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_type_checking(node: ast.AST) -> bool:
    """Return whether a node is an `if TYPE_CHECKING:` block."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def runtime_imports(node: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports below a node that run at import time, and the lazy ones if asked for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif is_type_checking(child):
            continue
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from runtime_imports(child, lazy)


def import_graph(lazy: bool) -> dict[str, set[str]]:
    """Return the files that each file imports, by dotted names.

    `from package import name` is an edge to the submodule `name` if there is one, else to the
    package; a package's `__init__` runs before its submodules, which is no cycle as long as it
    does not need them itself.
    """
    modules = {module_name(path): path for path in sources()}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in runtime_imports(ast.parse(path.read_text()), lazy):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                targets = [
                    f"{node.module}.{alias.name}"
                    if f"{node.module}.{alias.name}" in modules
                    else f"{node.module}"
                    for alias in node.names
                ]
            graph[name].update(t for t in targets if t in modules and t != name)
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components with more than one file (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str]()}
    assert cycles(graph) == [["b", "c"]]


@pytest.mark.parametrize("lazy", [False, True], ids=["at import", "with lazy imports"])
def test_no_import_cycles(lazy: bool) -> None:
    assert cycles(import_graph(lazy)) == []


def reached(graph: dict[str, set[str]], name: str) -> set[str]:
    """Return the files that importing one runs, with the `__init__` of packages below `recon`."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            parts = module.split(".")
            packages = {".".join(parts[:count]) for count in range(2, len(parts))}
            waiting += [*graph[module], *(packages & graph.keys())]
    return found


def test_what_treats_gaussians_does_not_read_captures() -> None:
    """A scene is read and improved without the libraries that decode photos, also lazily."""
    graph = import_graph(lazy=True)
    for name in graph:
        if name.startswith(BELOW_CAPTURES):
            above = {each for each in reached(graph, name) if each.startswith("recon.capture")}
            assert not above, f"{name} needs {sorted(above)[0]}"


def test_the_curve_of_srgb_is_written_once() -> None:
    files = [path for path in sources() if re.search(r"\b0\.0031308|\b0\.04045", path.read_text())]
    assert files == [ROOT / "render" / "srgb.py"]


def test_nothing_is_unpickled() -> None:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = ast.unparse(node.func)
            assert not name.startswith("pickle."), path
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", path
            if name == "np.load":
                assert keywords.get("allow_pickle") == "False", path


def test_lock_is_complete() -> None:
    """Every package of `make install` has a version in constraints.txt."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    makefile = (ROOT / "Makefile").read_text()
    extras = re.search(r"^EXTRAS \?= (.*)$", makefile, re.MULTILINE)
    assert extras is not None
    needed = [*project["dependencies"]]
    for extra in extras[1].split(","):
        needed += project["optional-dependencies"][extra]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_normal(line.partition("==")[0]) for line in pins if "==" in line}
    names = {_normal(re.split(r"[<>=;\[ ]", entry)[0]) for entry in needed}
    assert names <= pinned, f"run `make lock`: {names - pinned}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_import_names_are_ours() -> None:
    import importlib.metadata

    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["reconsplat"])) == {"reconsplat"}, owners[package]


def test_recon_imports_without_torch() -> None:
    code = (
        "import recon, recon.cli.main, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_cpu_library_answers() -> None:
    from render.backends import abi, native

    assert native.abi_version() == abi.VERSION


def test_tracked_files_are_small() -> None:
    """The bundled weights are the largest; no dump or scene slips into the project."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    large = [path.name for path in paths if path.is_file() and path.stat().st_size > MAX_BYTES]
    assert not large, large


def test_names_are_defined() -> None:
    """Ruff's check is off in pyproject.toml, since it takes axes such as "n 3" for names."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821"]
    run = subprocess.run(
        [*command, "--output-format", "json", *PACKAGES, "tests"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    undefined = []
    for found in json.loads(run.stdout):
        row, column = found["location"]["row"], found["location"]["column"]
        line = Path(found["filename"]).read_text().splitlines()[row - 1]
        if line[: column - 1].count('"') % 2 == 0:
            undefined.append(f"{found['filename']}:{row}: {found['message']}")
    assert not undefined
