"""The examples run, on inputs small enough to take seconds."""

import runpy
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from recon.model.registry import NETWORKS

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Arguments of each example; {sample} and {out} are filled in.
ARGUMENTS = {
    "01_photos_to_file.py": "{sample} {out}/s.ply --max-views 2 --resolution 64 --steps 3",
    "02_tensors_in_renders_out.py": "{sample} {out}/view.png --resolution 64",
    "03_optimise_own_scene.py": "{sample} --steps 20 --resolution 64",
    "04_train_on_own_data.py": "{sample} {out}/run --steps 2",
    "05_own_network.py": "{sample} {out}/own.safetensors",
}
WRITTEN = {"01_photos_to_file.py": "s.ply", "02_tensors_in_renders_out.py": "view.png"}
MAX_LINES = 40


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    arguments = ARGUMENTS[path.name].format(sample=sample, out=tmp_path).split()
    monkeypatch.setattr("recon.model.registry.NETWORKS", dict(NETWORKS))
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    if path.name in WRITTEN:
        assert (tmp_path / WRITTEN[path.name]).stat().st_size > 500
    else:
        assert printed
    if path.name == "03_optimise_own_scene.py":
        first, last = (float(line.split()[-2]) for line in printed.splitlines())
        assert last > first + 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path: Path) -> None:
    assert len([line for line in path.read_text().splitlines() if line.strip()]) < MAX_LINES
