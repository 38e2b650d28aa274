"""The compiled library: what is missing, stale or out of memory ends in one line."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from helpers import random_gaussians

from recon.formats import save_gaussians
from render import BackendUnavailable, OutOfMemory
from render.backends import abi, native

# Through the command line, several times in one process: (environment, return code of the kernel).
COMMAND = """
import os, sys
from recon.cli.main import main
from render.backends import native

class Failing:
    def __init__(self, library, code):
        self.library, self.code = library, code
    def __getattr__(self, name):
        if name == "recon_cpu_last_error":
            return lambda: b"no more threads"
        if name == "recon_cpu_forward":
            return lambda *_: self.code
        return getattr(self.library, name)

scene, folder = sys.argv[1:]
load = native.load_library
for environment, code in (
    ({"RECON_CPU_DIR": "/nonexistent"}, 0),
    ({"RECON_CPU": "avx9"}, 0),
    ({"RECON_CPU_DIR": folder}, 0),
    ({}, 1),
    ({}, 2),
    ({}, 0),
):
    before = dict(os.environ)
    os.environ.update(environment)
    for cached in (load, native.instruction_set, native._load):
        cached.cache_clear()
    native.load_library = (lambda: Failing(load(), code)) if code else load
    try:
        main(["render", scene, "-o", folder + "/out.png", "--size", "32x24", "--quiet"])
        print("done")
    except SystemExit as end:
        print("exit", end.code)
    os.environ.clear()
    os.environ.update(before)
"""


def test_problems_of_the_library_are_reported_in_one_line(tmp_path: Path, generator) -> None:
    scene, broken = tmp_path / "scene.ply", tmp_path / "broken"
    save_gaussians(scene, random_gaussians(20, generator).to(torch.float32))
    broken.mkdir()
    for suffix in native.INSTRUCTION_SETS.values():
        (broken / f"{native._PREFIX}recon_cpu{suffix}{native._SUFFIX}").write_text("no library")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(scene), str(broken)], capture_output=True, text=True
    )
    assert done.stdout.split("\n") == ["exit 2"] * 5 + ["done", ""], done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 5 and all(line.startswith("recon: error: ") for line in lines), lines
    missing, unknown, unreadable, memory, failed = lines
    assert "is not in RECON_CPU_DIR=/nonexistent; build it there, or unset RECON_CPU_DIR" in missing
    assert "RECON_CPU=avx9 in the environment: expected x86-64-v3 or baseline" in unknown
    assert f"{broken}" in unreadable and "cannot be loaded (" in unreadable
    assert unreadable.endswith("reinstall recon with `pip install .` and a C++ compiler")
    assert memory.endswith("ran out of memory; render fewer or smaller views")
    assert failed.endswith("the cpu rasterizer failed: no more threads")


def test_out_of_memory_is_also_a_memory_error() -> None:
    assert issubclass(OutOfMemory, MemoryError) and issubclass(OutOfMemory, BackendUnavailable)


def test_layout_of_the_library_equals_that_of_python() -> None:
    layout = abi.library_layout(native.load_library())
    assert layout == abi.expected_layout() and len(layout) == 79
    assert ("Request", 0, ctypes.sizeof(abi.Request)) in layout


def _without(struct: type[ctypes.Structure], name: str) -> type[ctypes.Structure]:
    kept = [field for field in struct._fields_ if field[0] != name]
    return type(struct.__name__, (ctypes.Structure,), {"_fields_": kept})


@pytest.mark.parametrize(
    ("struct", "name", "message"),
    [
        (abi.Request, "mask", "Request at 0, 136 bytes; expected Request at 0, 128 bytes"),
        (abi.Gradients, "absgrad", "Gradients at 0, 56 bytes; expected Gradients at 0, 48"),
    ],
)
def test_other_structs_are_refused(
    struct: type[ctypes.Structure], name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tuple(_without(each, name) if each is struct else each for each in abi.STRUCTS)
    monkeypatch.setattr(abi, "STRUCTS", ours)
    _assert_refused(f"other structs ({message}")


def test_fields_in_another_order_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Structs of the same size differ in names only."""
    fields = list(abi.Contributions._fields_)[::-1]
    swapped = type("Contributions", (ctypes.Structure,), {"_fields_": fields})
    monkeypatch.setattr(abi, "STRUCTS", (*abi.STRUCTS[:3], swapped, abi.AdamStep))
    _assert_refused("other structs (Contributions.weight_sum at 0")


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "VERSION", 99)
    _assert_refused("this source needs 99; reinstall recon")


def _assert_refused(message: str) -> None:
    native._load.cache_clear()
    try:
        with pytest.raises(BackendUnavailable) as found:
            native._load("baseline")
    finally:
        native._load.cache_clear()
    assert message in str(found.value)


LITTLE_MEMORY = """
import resource
from pathlib import Path
import torch
from render import Cameras, Gaussians, OutOfMemory, rasterize

count = 1_000_000
scene = Gaussians(torch.zeros(count, 3), torch.ones(count, 4), torch.ones(count, 3),
                  torch.ones(count), torch.zeros(count, 1, 3))
camera = Cameras.from_fov(torch.eye(4), 60.0, 16, 16)
rasterize(scene[:10], camera)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), -1))
for given in (scene, camera), (scene[:10], camera.resized(9000, 9000)):
    try:
        rasterize(*given)
    except OutOfMemory as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_the_kernel_reports_that_memory_ran_out() -> None:
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "the cpu rasterizer ran out of memory; render fewer or smaller views",
        "no memory for an image tensor of shape (1, 1, 3, 9000, 9000); render fewer or smaller "
        "views",
    ], done.stderr


FEW_THREADS = """
import resource
from pathlib import Path
import torch
from render import Cameras, Gaussians, rasterize

torch.set_num_threads(8)
scene = Gaussians(torch.tensor([[0.0, 0.0, 1.0]]).expand(30, 3), torch.ones(30, 4),
                  torch.ones(30, 3), torch.full((30,), 0.5), torch.zeros(30, 1, 3))
camera = Cameras.from_fov(torch.eye(4), 60.0, 256, 256)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
# Less than the stack of a thread: none starts.
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), -1))
print(tuple(rasterize(scene, camera).rgb.shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_the_kernel_works_where_no_thread_can_start() -> None:
    import resource

    def large_stacks() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-c", FEW_THREADS], capture_output=True, text=True, preexec_fn=large_stacks
    )
    assert done.stdout == "(3, 256, 256)\n", done.stderr


MANY_PAIRS = """
import torch
from render import BackendUnavailable, Cameras, Gaussians, rasterize

scene = Gaussians(torch.tensor([[0.0, 0.0, 1.0]]).expand(30, 3), torch.ones(30, 4),
                  torch.ones(30, 3), torch.ones(30), torch.zeros(30, 1, 3))
camera = Cameras.from_fov(torch.eye(4), 60.0, 64, 64)
print(float(rasterize(scene[:25], camera).alpha.min()) > 0.9)
try:
    rasterize(scene, camera)
except BackendUnavailable as error:
    print(error)
"""


@pytest.mark.slow
def test_too_many_pairs_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a build that counts to 100: real ones need 4 billion pairs and 50 GB."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    sources = sorted(map(str, (ROOT / "render/backends/cpu").glob("*.cpp")))
    library = tmp_path / f"{native._PREFIX}recon_cpu{native._SUFFIX}"
    subprocess.run(
        [compiler, "-std=c++17", "-O0", "-shared", "-fPIC", "-Wno-psabi", "-DRECON_MAX_PAIRS=100"]
        + [*sources, "-o", str(library), "-pthread"],
        check=True,
    )
    monkeypatch.setenv("RECON_CPU_DIR", str(tmp_path))
    monkeypatch.setenv("RECON_CPU", "baseline")
    done = subprocess.run([sys.executable, "-c", MANY_PAIRS], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "True",
        "the cpu rasterizer failed: one view has 120 pairs of a Gaussian and a tile, expected at "
        "most 100; render smaller images or fewer Gaussians",
    ], done.stderr
