"""`recon doctor`: what is missing for each feature, and the commands that install it."""

import importlib.metadata
import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from recon.cli import features
from recon.cli.main import main
from render.backends import native
from render.types import BackendUnavailable

# Extras that are no feature of the command line for one user on one machine.
NOT_FEATURES = {"dev", "ray", "wandb"}


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let packages look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in packages else find(name, *a)
    )


def test_facts(capsys: pytest.CaptureFixture) -> None:
    main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["cpu_kernel"].startswith(("x86-64-v3, ABI", "baseline, ABI"))
    assert "gsplat" in facts["optional"] and facts["repairs"] == {}
    assert facts["features"].keys() == {feature.name for feature in features.FEATURES}


def test_every_extra_is_a_feature() -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {feature.extra for feature in features.FEATURES}
    assert extras == set(project["optional-dependencies"]) - NOT_FEATURES


def test_a_missing_package_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    hide(monkeypatch, "pycolmap", "lazrs")
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert "cameras     missing: pycolmap; photos need known cameras" in "\n".join(lines)
    assert "LAS         missing: lazrs; no LAS and LAZ point clouds are written" in lines
    assert lines[-1].startswith("recon doctor --fix prints")


def test_fix_prints_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    hide(monkeypatch, *(name for feature in features.FEATURES for name in feature.packages))
    main(["doctor", "--fix"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    commands = [shlex.split(line) for line in lines]
    targets = {command[-1] for command in commands}
    for feature in features.FEATURES:
        assert f"reconsplat[{feature.extra}]" in targets or feature.extra == "cuda"
    assert all(command[:4] == [sys.executable, "-m", "pip", "install"] for command in commands)


def test_fix_says_that_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("recon.cli.doctor.feature_states", lambda *_: {})
    main(["doctor", "--fix"])
    said = capsys.readouterr()
    assert said.out == "" and "nothing is missing" in said.err


@pytest.mark.slow
def test_pip_accepts_the_command() -> None:
    """Where everything is installed, pip finds nothing to do, without network."""
    if "pycolmap" not in " ".join(importlib.metadata.requires("reconsplat") or []):
        pytest.skip("recon is not installed with its extras")
    command = [*shlex.split(features.install_command("sfm")), "--dry-run", "--no-index"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout and "pycolmap" in done.stdout


def test_command_for_a_source_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr(features, "source_folder", lambda: Path("/home/me/my recon"))
    assert shlex.split(features.install_command("sfm"))[-1] == "/home/me/my recon[sfm]"


def test_a_damaged_kernel_is_repaired(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken() -> int:
        raise BackendUnavailable("recon's CPU library (baseline) was not built")

    monkeypatch.setattr(native, "abi_version", broken)
    main(["doctor"])
    assert "missing: recon's CPU library" in capsys.readouterr().out
    main(["doctor", "--fix"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# cpu kernel"
    assert shlex.split(lines[1])[-3:] == ["--force-reinstall", "--no-deps", str(ROOT)]


@pytest.mark.parametrize(
    ("driver", "cuda_build", "missing", "targets"),
    [
        (False, False, "an NVIDIA GPU with its driver", []),
        (True, True, "a GPU that torch sees", []),
        (True, False, "a torch built for CUDA", ["--index-url", "reconsplat[cuda]"]),
    ],
)
def test_what_a_gpu_needs(
    driver: bool, cuda_build: bool, missing: str, targets: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(features.platform, "system", lambda: "Linux")
    monkeypatch.setattr(features.shutil, "which", lambda _: "/bin/nvidia-smi" if driver else None)
    hide(monkeypatch, "gsplat")
    state = features.feature_states(cuda_build, sees_gpu=False)["GPU"]
    assert state.missing[0].startswith(missing)
    assert len(state.commands) == len(targets)
    assert all(target in command for target, command in zip(targets, state.commands, strict=True))
