"""`recon bench`, and the GPU script's dry run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image

from recon import ReconError
from recon.cli.main import main
from render import measure_contributions
from training.benchmarks import raster, views
from training.benchmarks.scenes import SCENES


@pytest.mark.slow
def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "raster", "--scenes", "s1", "--degrees", "0", "--repeats", "1", "--json"])
    results = json.loads(capsys.readouterr().out)
    assert {row["threads"] for row in results["rows"]} == {1, torch.get_num_threads()}
    for row in results["rows"]:
        assert row["scene"] == "s1" and row["gaussians"] == 131_072
        cpu_ms = row["forward_backward"]["cpu_ms"]
        assert row["ns_per_pair"] == pytest.approx(1e6 * cpu_ms / row["pairs"])
        assert row["forward"]["cpu_ms"] < cpu_ms and row["fma_peak_gflops"] > 1
    # Far below what a quiet machine shows (70 and more); a scalar kernel would fail.
    assert results["reference_s1"]["ratio"] > 20
    assert results["instruction_set"] in ("x86-64-v3", "baseline")


def test_json_to_a_file_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    options = ["--scenes", "s2", "--degrees", "0", "--repeats", "1", "--quiet"]
    main(["bench", "raster", *options, "--json", str(file)])
    assert json.loads(file.read_text())["rows"][0]["scene"] == "s2"
    shown = capsys.readouterr()
    assert "ns/pair" in shown.out and "s2" in shown.out and shown.err == ""


def test_bad_options_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--repeats", "0"], "--repeats must be at least 1, found 0"),
        (["--scenes", "s9"], "s9"),
        (["model", "--side", "0"], "--side must be at least 1, found 0"),
        (["model", "--networks", "nerf"], "unknown network 'nerf'; expected one of: cost-volume"),
        (["model", "--networks", "cost-volume:huge"], "cost-volume has no size 'huge'"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["bench", *options])
        error = capsys.readouterr().err
        assert end.value.code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize(("name", "pairs"), [("s1", 3.34e6), ("s2", 13.85e6)])
def test_scenes_have_about_the_published_number_of_pairs(name: str, pairs: float) -> None:
    scene, cameras = SCENES[name](0)
    assert float(measure_contributions(scene, cameras).hits.sum()) == pytest.approx(pairs, rel=0.05)


@pytest.mark.slow
def test_gpu_script_runs_dry(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    script = [sys.executable, str(ROOT / "tests" / "gpu" / "raster_gpu.py"), "--device", "cpu"]
    subprocess.run(
        [*script, "--out", str(out), "--repeats", "1", "--scenes", "s1"],
        check=True, capture_output=True,
    )  # fmt: skip
    results = json.loads(out.read_text())
    assert len(results["accuracy"]) == 16 and results["missed"] == []


def test_networks_are_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["cost-volume:tiny", "gs-lrm:tiny", "epipolar:tiny"]
    options = ["--networks", *names, "--side", "32", "--views", "3", "--repeats", "1", "--quiet"]
    main(["bench", "model", *options, "--json", str(tmp_path / "m.json")])
    rows = json.loads((tmp_path / "m.json").read_text())["rows"]
    assert [f"{row['network']}:{row['size']}" for row in rows] == names
    for row in rows:
        assert row["gflops"] > 0 and row["inference_ms"] > 0 and row["parameters"] > 1e4
        assert 0 < row["training_utilisation"] < 1.5
    table = capsys.readouterr().out
    assert "samples/s" in table and all(name.split(":")[0] in table for name in names)


def test_gpu_script_for_models_runs_dry(tmp_path: Path) -> None:
    script = ROOT / "tests" / "gpu" / "model_gpu.py"
    out = tmp_path / "m.json"
    command = [sys.executable, str(script), "--device", "cpu", "--small", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    assert len(json.loads(out.read_text())["rows"]) == 4


def test_a_measurement_that_fails_is_one_line() -> None:
    with pytest.raises(ReconError, match="separate process failed: ZeroDivisionError") as end:
        raster._in_new_process("time.sleep(1 / 0)")
    assert "\n" not in str(end.value)


def test_cost_over_the_number_of_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's measurements, in this process; passes that are too large are only counted."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    rows = {
        label: [views.measure(network, changes, count, 32, 1e12) for count in (2, 4)]
        for label, (network, changes) in views.CASES.items()
    }
    assert all(row["mb"] >= 0 and row["cpu_s"] > 0 for each in rows.values() for row in each)
    assert rows["long-lrm"][1]["gflop"] == pytest.approx(2 * rows["long-lrm"][0]["gflop"])
    assert rows["gs-lrm"][1]["gflop"] > 2.02 * rows["gs-lrm"][0]["gflop"]
    counted = views.measure("gs-lrm", {}, 64, 256, 1e12)
    assert counted.keys() == {"views", "gflop"} and counted["gflop"] > 1e3
    views.plot(rows, tmp_path / "views.png")
    with Image.open(tmp_path / "views.png") as image:
        assert image.width > 500
