"""House rules: import direction, file sizes, no unpickling, packaging."""

import ast
import subprocess
import sys
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
MAX_LINES = 500
MAX_MEDIAN = 150
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
    from render.backends import native

    assert native.abi_version() == native.ABI_VERSION


def test_tracked_files_are_small() -> None:
    """The bundled weights are the largest; no dump or scene slips into the project."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    large = [path.name for path in paths if path.is_file() and path.stat().st_size > MAX_BYTES]
    assert not large, large
