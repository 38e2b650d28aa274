"""The benchmark: its runs are resumed, what is missing is skipped, its page comes from its JSON."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from recon.errors import InputError
from training.benchmark_report import measurements as measured
from training.benchmark_report.__main__ import main
from training.benchmark_report.captures import Captures, without_folders
from training.benchmark_report.machine import run_measured
from training.benchmark_report.measurements import Measurement
from training.benchmark_report.pages import pages, write_pages
from training.benchmark_report.plan import FULL, QUICK, Plan
from training.benchmark_report.plots import PLOTS, digest, draw_quality, drawn, write_plots
from training.benchmark_report.record import Run, measure_all, read_source, rounded
from training.benchmark_report.tables import with_error
from training.evaluation import metrics
from training.evaluation.lpips import VGG16_FILE, Lpips, load_lpips


def scores(psnr: float) -> dict[str, Any]:
    return {
        "psnr": psnr, "psnr_exposure_fitted": psnr + 0.5, "ssim": psnr / 40, "st_lpips": 1 / psnr,
        "lpips": None,
    }  # fmt: skip


def page(document: dict[str, Any]) -> str:
    """Return both pages."""
    return "".join(pages(document).values())


def tiny_document() -> dict[str, Any]:
    """Return a document with one or two entries in each section."""
    means = {"recon": 26.0, "constant depth": 15.0, "nearest photo": 14.0}
    quality = {
        "photos": 10, "held_out": 1, "gaussians": 120000, "steps": 259,
        "mean": {name: scores(value) for name, value in means.items()},
    }  # fmt: skip
    better = copy.deepcopy(quality)
    better["mean"]["recon"] = scores(30.0)
    row = {
        "name": ".sog", "bytes": 1_230_000, "gaussians": 120000, "psnr": 25.5, "encode_s": 1.25,
        "decode_s": 0.1,
    }  # fmt: skip
    timing = {"wall_ms": 22.3, "cpu_ms": 22.2}
    compared = {"seconds": 31.0, "recon": {"psnr": 27.0, "steps": 100}}
    return {
        "format": 1, "commit": "abc1234", "changed": False, "version": "0.1.0",
        "date": "2026-01-02", "plan": "quick", "perceptual": "st_lpips",
        "machine": {
            "system": "Linux", "processor": "x86_64", "instruction_set": "x86-64-v3", "cores": 2,
            "threads": 2, "torch": "2.13.0", "quiet": False, "cores_of_others": 1.5,
        },
        "skipped": [
            {"key": "poses/fox", "reason": "the folder of captures has no fox"},
            {"key": "quality/fox/dense", "reason": "the folder of captures has no fox"},
        ],
        "results": {
            "raster": {
                "instruction_set": "x86-64-v3", "threads": 2, "memory_s3_mb": 116.0,
                "reference_s1": {"wall_ms": 1240.0, "ratio": 79.0},
                "rows": [{
                    "scene": "s1", "sh_degree": 0, "gaussians": 131072, "pairs": 3330000,
                    "threads": 1, "forward": timing, "forward_backward": timing, "ns_per_pair": 6.7,
                    "fma_peak_gflops": 126.0,
                }],
            },
            "networks": {
                "rows": [{
                    "network": "cost-volume", "size": "base", "views": 2, "side": 256,
                    "parameters": 8_100_000, "gflops": 95.0, "inference_ms": 350.0,
                    "inference_utilisation": 0.32, "training_samples_per_s": 1.0,
                    "training_utilisation": 0.34,
                }],
            },
            **{
                f"photos/sample/{count}": {
                    "photos": count, "gaussians": 50000 * count, "megabytes": 5.0 * count,
                    "seconds": 4.0 * count, "processor_seconds": 7.0 * count, "peak_bytes": 7e8,
                }
                for count in (2, 4)
            },
            "files/sample/4v": {"rows": [row, {**row, "name": "PLY", "bytes": 12_000_000}]},
            "poses/table": {
                "photos": 20, "registered": 20, "rotation_deg": 0.15, "translation": 0.0015,
                "auc": {"5": 0.92, "30": 0.99}, "seconds": 16.0,
            },
            "equal time/table/dense/30": {
                **compared, "budget": 30.0,
                "baseline": {"psnr": 25.5, "steps": 400, "gaussians": 200000},
            },
            "quality/table/dense": quality, "quality/sample/every 4": better,
            "quality/table/sector 0.2": quality,
        },
    }  # fmt: skip


def test_page_of_a_tiny_document() -> None:
    text = page(tiny_document())
    for line in (
        "Plan: quick. Commit: abc1234, version 0.1.0, 2026-01-02.",
        "other programs kept up to 1.5 of these cores busy",
        "| every n-th | 2 | recon | 28.00 ± 2.00 | 0.700 ± 0.050 | 0.036 ± 0.003 |",
        "| sector | 1 | recon | 26.00 | 0.650 | 0.038 |",
        "| table | dense | 10 | 1 | 26.00 | 26.50 | 0.650 | 0.038 | 15.00 | 14.00 |",
        "| table | dense | 30 | 31 | 27.00 (100) | 25.50 (400) | +1.50 |",
        "| sample | 2 | 100,000 | 10.0 | 8.0 | 14.0 | 0.70 |",
        "| table | 20 of 20 | 0.15 | 0.15 | 0.92 | 0.99 | 16 |",
        "| sample | 4v | `.sog` | 120,000 | 1.23 | 25.50 | 1.2 | 0.1 |",
        "| s1 | 131,072 | 3.33 | 0 | 1 | 22.3 | 22.3 | 22.2 | 6.7 |",
        "s1, 79 times the kernel's time. s3 needs 116 MB beyond inputs and outputs.",
        "| cost-volume base | 8.1 | 2, 256 | 95 | 350 | 32% | 1.00 | 34% |",
        "- poses/fox, quality/fox/dense: the folder of captures has no fox",
        "ST-LPIPS with AlexNet",
    ):
        assert line in text, line
    assert "<!--" not in text and len(text.splitlines()) <= 200


def test_sections_that_were_not_measured_are_left_out() -> None:
    document = tiny_document()
    results = {k: v for k, v in document["results"].items() if not k.startswith(("poses", "files"))}
    text = page({**document, "results": results, "skipped": [], "perceptual": None})
    assert "## Quality" in text and "ST-LPIPS" not in text and "No perceptual metric" in text
    for title in ("## Estimated cameras", "## Files", "## Not measured"):
        assert title not in text
    assert "## Protocol" in page({**document, "results": {}})


def test_standard_error() -> None:
    assert with_error([1.0, 2.0, 3.0, 4.0], 2) == "2.50 ± 0.65"
    assert with_error([1.0, None], 1) == "1.0" and with_error([None], 1) == "n/a"


def test_plots_follow_the_numbers(tmp_path: Path) -> None:
    document = tiny_document()
    write_plots(document, tmp_path)
    files = {path.stem: path for path in (tmp_path / "benchmark").iterdir()}
    assert set(files) == set(PLOTS)
    for name, path in files.items():
        with Image.open(path) as image:
            assert image.width > 300 and len(image.convert("RGB").getcolors(1 << 20) or ()) > 20
        assert path.stat().st_size < 100_000
        assert drawn(path) == digest(PLOTS[name][0](document))
    document["results"]["quality/table/dense"]["mean"]["recon"]["psnr"] += 1
    assert drawn(files["quality"]) != digest(PLOTS["quality"][0](document))
    assert drawn(files["files"]) == digest(PLOTS["files"][0](document))


def test_plans_name_what_exists() -> None:
    for plan in (QUICK, FULL):
        keys = [each.key for each in measured.measurements(plan, Captures(None, Path()))]
        assert len(set(keys)) == len(keys)
        assert set(plan.search) <= set(plan.files)
        quality = [key.startswith("quality") for key in keys]
        assert quality == sorted(quality)  # what needs a quiet machine comes first
        assert {each.split("/")[0] for each in keys} == {
            "raster", "networks", "photos", "files", "poses", "equal time", "quality",
        }  # fmt: skip


def run_in(folder: Path, plan: Plan, captures: Path | None = None) -> Run:
    return Run.of(plan, captures, folder / "state")


def test_a_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before an interruption is not measured again; other settings are."""
    calls: list[str] = []

    def fake(plan: Plan, captures: Captures):
        def run(key: str) -> dict[str, Any]:
            calls.append(key)
            if key == "b" and len(calls) == 2:
                raise KeyboardInterrupt
            return {"value": 1 / 3}

        return (Measurement(key, lambda key=key: run(key)) for key in ("a/x", "b"))

    monkeypatch.setattr("training.benchmark_report.record.measurements", fake)
    others = iter((0.02, 0.02, 0.02, 1.0, 1.0))
    monkeypatch.setattr("training.benchmark_report.record.cores_of_others", lambda: next(others))
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measure_all(run_in(tmp_path, QUICK), told.append)
    found = measure_all(run_in(tmp_path, QUICK), told.append)
    assert calls == ["a/x", "b", "b"]
    assert found["results"]["a/x"]["value"] == 0.333333 and found["machine"]["quiet"]
    assert told[1].endswith(", stored") and not told[2].endswith(", stored")
    found = measure_all(run_in(tmp_path, FULL), told.append, minutes=-1.0)
    assert calls[3:] == [] and len(found["skipped"]) == 2
    assert found["skipped"][0]["reason"] == "the time of the run was over"
    found = measure_all(run_in(tmp_path, FULL), told.append)
    assert calls[3:] == ["a/x", "b"] and not found["machine"]["quiet"]


def test_other_programs_do_not_change_the_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"raster": 0.0, "quality/fox/dense": 1.0}
    tasks = [Measurement(key, dict) for key in others]
    monkeypatch.setattr("training.benchmark_report.record.measurements", lambda *_: iter(tasks))
    busy = iter(others.values())
    monkeypatch.setattr("training.benchmark_report.record.cores_of_others", lambda: next(busy))
    found = measure_all(run_in(tmp_path, FULL), lambda line: None)
    assert found["machine"]["quiet"] and found["machine"]["cores_of_others"] == 0.0


def test_few_photos_are_scored_with_the_network_alone() -> None:
    document = tiny_document()
    few = copy.deepcopy(document["results"]["quality/table/dense"])
    few["mean"]["network"] = scores(22.0)
    document["results"]["quality/table/2v"] = few
    text = page(document)
    assert "| 2 photos | 1 | network | 22.00 |" in text
    assert "PSNR constant depth | PSNR nearest photo | PSNR network |" in text
    assert "| table | dense | 10 | 1 | 26.00 | 26.50 | 0.650 | 0.038 | 15.00 | 14.00 | n/a" in text


def test_missing_captures_are_said_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "captures").mkdir()
    plan = Plan(
        "tiny", quality={"fox": ["dense"]}, poses=("fox",), files={"fox": "4v"},
        photos={"fox": [2]}, equal_time={"fox": "dense"}, budgets=(1.0,),
    )  # fmt: skip
    told: list[str] = []
    found = measure_all(run_in(tmp_path, plan, tmp_path / "captures"), told.append)
    assert found["results"] == {} and len(found["skipped"]) == len(told) == 5
    assert {each["reason"] for each in found["skipped"]} == {"the folder of captures has no fox"}
    assert all("skipped, the folder of captures has no fox" in line for line in told)
    found = measure_all(run_in(tmp_path, plan), told.append)
    assert "no folder of captures was named" in found["skipped"][0]["reason"]


def test_reasons_name_no_folder() -> None:
    text = "cannot read /work/some.where/fox/images/1.jpg: it is a/b, C:\\Users\\me\\x.png"
    assert without_folders(text) == "cannot read 1.jpg: it is a/b, x.png"


@pytest.mark.slow
def test_small_measurements_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command to the pages, with fast settings."""
    from recon.config import OptimiseConfig, ReconstructConfig

    fast = ReconstructConfig(model="constant-depth", optimise=OptimiseConfig(steps=0))
    monkeypatch.setitem(measured.METHODS, "recon", fast)
    monkeypatch.setattr("training.benchmark_report.__main__.QUICK", Plan(
        "tiny", quality={"sample": ["every 4"]}, photos={"sample": [2, 9]}, poses=("none",),
    ))  # fmt: skip
    arguments = ["--quick", "--docs", str(tmp_path), "--state", str(tmp_path / "state")]
    main(arguments)
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert [each["reason"] for each in document["skipped"]] == [
        "no folder of captures was named, which should hold none", "sample has only 8 photos",
    ]  # fmt: skip
    entry = document["results"]["photos/sample/2"]
    assert entry["gaussians"] > 1000 and 1e8 < entry["peak_bytes"] < 1e10
    assert entry["processor_seconds"] > 0
    assert document["results"]["quality/sample/every 4"]["held_out"] == 2
    assert str(tmp_path) not in json.dumps(document)
    text = (tmp_path / "benchmark.md").read_text()
    assert (
        text == pages(document)["benchmark.md"]
        and (tmp_path / "benchmark" / "photos.png").is_file()
    )
    (tmp_path / "benchmark.md").unlink()
    main([*arguments, "--from-json"])
    assert (tmp_path / "benchmark.md").read_text() == text


def test_unusable_options(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words, message in (
        (["--captures", str(tmp_path / "none")], "is no folder"),
        (["--docs", str(tmp_path / "none")], "is no folder"),
        (["--docs", str(tmp_path), "--from-json"], "measure first"),
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2 and message in capsys.readouterr().err
    (tmp_path / "benchmark.json").write_text("[]")
    with pytest.raises(SystemExit):
        main(["--docs", str(tmp_path), "--from-json"])


def test_equal_times_need_a_quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycolmap")
    monkeypatch.setattr(measured, "cores_of_others", lambda: 0.9)
    with pytest.raises(InputError, match="kept the cores busy"):
        measured.equal_time(Captures(None, tmp_path), "sample", "2v", 1.0)


def test_an_interrupted_command_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.benchmark_report.__main__.measure_all", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["--docs", str(tmp_path), "--state", str(tmp_path / "state")])
    assert end.value.code == 130 and "goes on where it was" in capsys.readouterr().err
    assert not (tmp_path / "benchmark.json").exists()


def test_a_failing_command_is_told() -> None:
    code = "import sys; sys.exit('no such thing')"
    with pytest.raises(InputError, match="ended with 1: no such thing"):
        run_measured([sys.executable, "-c", code])
    code = "x = bytearray(300_000_000); print(len(x))"
    found = run_measured([sys.executable, "-c", code])
    assert found["out"] == "300000000\n" and 3e8 < found["peak_bytes"] < 4e8


def test_numbers_are_rounded() -> None:
    assert rounded({"a": [1.23456789, float("inf")], "b": 10**9}) == {
        "a": [1.23457, None], "b": 10**9,
    }  # fmt: skip


def test_lpips_reads_the_weights_of_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random features in torchvision's layout and the published weights of LPIPS."""
    torch.manual_seed(0)
    random = Lpips()
    for each in random.features:
        if isinstance(each, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(each.weight)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    load_lpips.cache_clear()
    photo = torch.rand(3, 48, 64)
    valid = torch.ones(1, 48, 64)
    assert metrics.lpips(photo, photo, valid) is None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    state = {f"features.{name}": value for name, value in random.features.state_dict().items()}
    assert "features.28.weight" in state and len(state) == 26  # as in torchvision's file
    torch.save({**state, "classifier.0.weight": torch.zeros(1)},
               tmp_path / "hub" / "checkpoints" / VGG16_FILE)  # fmt: skip
    load_lpips.cache_clear()
    try:
        model = load_lpips()
        assert model is not None and all(float(each.min()) >= 0 for each in model.weights)
        near, far = (photo + scale * torch.randn(3, 48, 64) for scale in (0.02, 0.2))
        same, small, large = (metrics.lpips(each, photo, valid) for each in (photo, near, far))
        assert same == pytest.approx(0, abs=1e-6)
        assert small is not None and large is not None and 0 < small < large
    finally:
        load_lpips.cache_clear()


def test_pages_are_written_as_a_whole(tmp_path: Path) -> None:
    write_pages(tiny_document(), tmp_path)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.md"))
    assert names == ["benchmark.md", "benchmark/files-and-speed.md"]
    first, second = ((tmp_path / name).read_text() for name in names)
    sections = ("\n## Files\n", "\n## Rasterizer\n", "\n## Networks\n")
    assert not any(section in first for section in sections) and "\n## Quality\n" in first
    assert any(section in second for section in sections) and "](benchmark/" not in second


def test_a_method_has_one_style_in_all_panels() -> None:
    points = [("fox", 20.0), ("table", 25.0)]
    panels = {
        "two": {"recon": points, "network": points, "nearest photo": points},
        "dense": {"recon": points, "nearest photo": points, "constant depth": points},
    }
    figure = draw_quality(panels)
    styles: dict[str, set[tuple[str, str]]] = {}
    for axis in figure.axes:
        for line in axis.get_lines():
            styles.setdefault(str(line.get_label()), set()).add(
                (str(line.get_color()), str(line.get_marker()))
            )
    assert all(len(each) == 1 for each in styles.values())
    assert len(set.union(*styles.values())) == 4
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(styles)


def test_new_files_of_the_code_change_its_digest(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip

    (tmp_path / "recon").mkdir()
    (tmp_path / "recon" / "a.py").write_text("1")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = read_source(tmp_path)
    (tmp_path / "notes.txt").write_text("not measured")
    (tmp_path / "recon" / "a.pyc").write_text("ignored")
    assert read_source(tmp_path) == clean and not clean.changed
    found = [clean.digest]
    for name, text in (("é b.py", "2"), ("é b.py", "3"), ("c.py", "3"), ("a.py", "2")):
        (tmp_path / "recon" / name).write_text(text)
        source = read_source(tmp_path)
        assert source.changed and source.digest not in found
        found.append(source.digest)
