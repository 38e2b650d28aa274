"""Metrics, splits, suites, and the evaluation of any method."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from helpers import look_at_cameras, random_gaussians
from re10k_files import frames_of, write_chunk

from recon import ReconError
from recon.capture import load_capture
from recon.cli.main import main
from recon.config import OptimiseConfig, ReconstructConfig
from recon.model.registry import build_model
from recon.scene import Scene
from recon.types import Views
from render import Gaussians
from training.evaluation import metrics
from training.evaluation.benchmark import CONSTANT_DEPTH, evaluate
from training.evaluation.captures import EvaluateConfig
from training.evaluation.methods import recon_method
from training.evaluation.scoring import NEAREST_PHOTO, mean_psnr, score_case
from training.evaluation.suite import Case, Suite, read_split, read_suite


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 12, 16, generator=generator)
    photo = torch.nn.functional.interpolate(small, (48, 64), mode="bilinear")[0]
    noise = 0.1 * torch.randn(3, 48, 64, generator=generator)
    return photo, (photo + noise).clamp(0, 1)


def test_psnr_by_hand() -> None:
    photo = torch.full((3, 4, 4), 0.5)
    valid = torch.ones(1, 4, 4)
    assert metrics.psnr(photo + 0.1, photo, valid) == pytest.approx(20, abs=1e-4)
    broken = photo.clone()
    broken[:, 0] = 1
    assert metrics.psnr(broken, photo, valid) == pytest.approx(12.04, abs=0.01)
    valid[:, 0] = 0
    assert metrics.psnr(broken, photo, valid) > 90


def test_exposure_is_fitted_per_channel() -> None:
    photo, _ = images()
    valid = torch.ones(1, 48, 64)
    tinted = photo * torch.tensor([0.7, 0.9, 0.8])[:, None, None]
    assert metrics.psnr(tinted, photo, valid) < 25
    assert metrics.psnr_exposure_fitted(tinted, photo, valid) > 60


def test_metrics_order_alike_and_unlike() -> None:
    photo, noisy = images()
    valid = torch.ones(1, 48, 64)
    assert metrics.ssim(photo, photo, valid) == pytest.approx(1, abs=1e-5)
    assert metrics.ssim(noisy, photo, valid) < 0.9
    if metrics.st_lpips(photo, photo, valid) is None:
        pytest.skip("stlpips-pytorch is not installed")
    assert metrics.st_lpips(photo, photo, valid) == pytest.approx(0, abs=1e-6)
    shifted = torch.roll(photo, 1, -1)
    near, far = (metrics.st_lpips(p, photo, valid) for p in (shifted, noisy))
    assert near is not None and far is not None and near < 0.5 * far


def test_split_names_frames(sample: Path) -> None:
    split = read_split(load_capture(sample), "2v")
    assert [f.name for f in split.context] == ["images/002.jpg", "images/004.jpg"]
    assert [f.name for f in split.target] == ["images/003.jpg"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"context": ["images/000.jpg", "x.jpg"], "target": ["images/001.jpg"]}, "'x.jpg' is not"),
        ({"context": [], "target": ["images/001.jpg"]}, "it is empty"),
        ({"context": ["images/000.jpg"], "target": ["images/000.jpg"]}, "both context and target"),
    ],
)
def test_bad_splits(split: dict, message: str, sample: Path, tmp_path: Path) -> None:
    for path in sample.iterdir():
        if path.name != "splits.json":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "splits.json").write_text(json.dumps({"s": split}))
    with pytest.raises(ReconError, match=message):
        read_split(load_capture(tmp_path), "s")


def test_splits_by_rule(sample: Path) -> None:
    capture = load_capture(sample)
    names = [frame.name for frame in capture.frames]
    every = read_split(capture, "every 3")
    assert [f.name for f in every.target] == names[::3]
    sector = read_split(capture, "sector 0.25")
    held_out = [names.index(f.name) for f in sector.target]
    assert len(held_out) == 2 and held_out[1] - held_out[0] == 1
    for split in (every, sector):
        assert sorted(f.name for f in (*split.context, *split.target)) == names
    with pytest.raises(ReconError, match="8 photos, of which .* holds out 8"):
        read_split(capture, "sector 0.99")


def test_eval_without_splits_and_with_flags_that_it_cannot_use(
    sample: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "images").symlink_to(sample / "images")
    shutil.copy(sample / "transforms.json", tmp_path)
    fast = ["--model", "constant-depth", "--resolution", "32", "--refine", "0", "--json"]
    main(["eval", str(tmp_path), *fast, "--max-views", "3"])
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert case["split"] == "every 8" and list(case["targets"]["constant-depth"]) == [
        "images/000.jpg"
    ]
    assert case["gaussians"] == 3 * 32 * 24
    for words in (
        "--split 2v --every 4",
        "--suite x.yaml --sector 0.2",
        "--every 1",
        "--sector 1",
        "--metric-scale 2",
        "--center",
    ):
        arguments = words.split() if "--suite" in words else [str(tmp_path), *words.split()]
        with pytest.raises(SystemExit) as end:
            main(["eval", *arguments])
        assert end.value.code == 2 and words.split()[-2 if " " in words else -1] in (
            capsys.readouterr().err
        )


def test_suite_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("root: ../captures\ncases:\n  fox: [2v, 4v]\n")
    suite = read_suite(path)
    assert [(c.capture.name, c.split) for c in suite.cases] == [("fox", "2v"), ("fox", "4v")]
    assert suite.realestate10k is None
    assert suite.select([]) == suite.select(["fox"]) == suite.cases
    assert suite.select(["fox/4v"]) == suite.cases[1:]
    with pytest.raises(ReconError, match="--only fix: no such case .* it has fox/2v, fox/4v"):
        suite.select(["fix"])
    path.write_text("rooot: x\ncases: {}\n")
    with pytest.raises(ReconError, match="expected the keys 'root' and 'cases'"):
        read_suite(path)
    path.write_text("realestate10k: {foldr: x}\n")
    with pytest.raises(ReconError, match="unknown key foldr; did you mean folder"):
        read_suite(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cases: {fox: 5}", "cases, fox: expected a list of splits, found 5"),
        ("cases: {fox: 2v}", "cases, fox: expected a list of splits, found '2v'"),
        ("realestate10k: {width: 0}", "realestate10k: width must be at least 1, found 0"),
        ("realestate10k: {limit: -1}", "realestate10k: limit must be at least 0, found -1"),
        ("realestate10k: {near: 3, far: 2}", "near must be above 0 and below far, found 3 and 2"),
    ],
)
def test_wrong_suites_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ReconError, match=message):
        read_suite(path)


def test_any_method_is_evaluated(sample: Path) -> None:
    """A function from views to Gaussians; with baselines or without."""
    suite = Suite((Case(sample, "2v"),))
    seen: list[Views] = []

    def planes(views: Views) -> Gaussians:
        seen.append(views)
        return build_model("plane-sweep")(views, lambda done: None).gaussians

    (case,) = evaluate(planes, suite, EvaluateConfig(resolution=48), baselines=False).cases
    assert seen[0].names == ("images/002.jpg", "images/004.jpg") and len(seen) == 1
    assert case.methods == ("planes",) and set(case.scores) == {"planes"}
    assert case.num_gaussians == {"planes": 2 * 48 * 36}
    document = case.as_dict()
    assert document["model"] == "planes" and document["resolution"] == 48
    psnr = case.mean("planes", "psnr")
    assert psnr is not None and psnr > 15
    methods = {"one": planes, "two": planes}
    both = evaluate(methods, suite, EvaluateConfig(resolution=48))
    assert list(both.cases[0].scores) == ["one", "two", NEAREST_PHOTO, CONSTANT_DEPTH]
    assert both.cases[0].mean("two", "psnr") == psnr
    assert "skipped" not in both.as_dict() and "| one " in both.table()


@pytest.mark.parametrize("steps", [0, 2])
def test_results_record_what_was_done(sample: Path, steps: int) -> None:
    """Without optimisation nothing is simplified, whatever the configured fraction."""
    config = ReconstructConfig(model="plane-sweep", optimise=OptimiseConfig(steps=steps))
    suite = Suite((Case(sample, "2v"),))
    methods = {"plane-sweep": recon_method(config)}
    (case,) = evaluate(methods, suite, EvaluateConfig(resolution=48), baselines=False).cases
    document = case.as_dict()
    assert document["steps"] == steps and document["num_steps"] <= steps
    removed = document["gaussians"] < 2 * 48 * 36
    assert document["simplify"] == (0.5 if removed else 0.0)
    assert removed == (document["num_steps"] > 0)
    assert not removed or steps > 0


@pytest.mark.slow
def test_realestate10k_suite_to_json_and_table(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The command over an index with a scene, a null, a missing scene and a broken one."""
    clip = frames_of(sample, 5, 96)
    broken = ([clip[0][0], b"no jpeg", *clip[0][2:]], clip[1])
    write_chunk(tmp_path / "000000.torch", {"good": clip, "broken": broken})
    entry = {"context": [0, 2], "target": [1, 3]}
    index = {"good": entry, "none": None, "gone": entry, "broken": entry}
    (tmp_path / "index.json").write_text(json.dumps(index))
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "realestate10k: {folder: ., index: index.json, width: 64, height: 64, near: 2, far: 12}\n"
    )
    table, numbers = tmp_path / "table.md", tmp_path / "numbers.json"
    model = ["--model", "plane-sweep", "--refine", "5"]
    main(["eval", "--suite", str(suite), *model, "--markdown", str(table), "--json", str(numbers)])
    document = json.loads(numbers.read_text())
    assert document["skipped"] == {
        "null entry of the index": 1, "corrupt image": 1, "clip of the index not found": 1,
    }  # fmt: skip
    (case,) = document["cases"]
    assert case["suite"] == "RealEstate10K" and case["capture"] == "good"
    assert set(case["targets"]["plane-sweep"]) == {"good/1", "good/3"}
    assert case["mean"]["plane-sweep"]["psnr"] > 18
    rows = table.read_text().splitlines()
    assert len(rows) == 5 and rows[2].startswith("| RealEstate10K, 1 scenes | index | mean")
    assert "skipped: corrupt image (1)" in capsys.readouterr().out


def test_scenes_are_scored_as_they_are_to_be_rendered(generator: torch.Generator) -> None:
    gaussians = random_gaussians(200, generator, degree=0, dtype=torch.float32)
    scene = Scene(replace(gaussians, scales=0.05 * gaussians.scales), antialiased=True)
    cameras = look_at_cameras(1, 64, 48, torch.float32)
    image = scene.render(cameras).rgb.clamp(0, 1)
    targets = Views(
        image, image.new_ones(1, 1, 48, 64), image.new_ones(1, 1, 48, 64), cameras, ("a",)
    )
    assert mean_psnr(scene, targets) > 80 > mean_psnr(scene.gaussians, targets)
    case = score_case(
        Case(Path("a"), "s"), {"own": lambda _: scene}, {}, targets, targets, targets, {}
    )
    assert case.mean("own", "psnr") == mean_psnr(scene, targets)


def test_a_missing_package_is_told_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(SystemExit) as end:
        main(["eval", str(ROOT / "assets" / "city"), "--split", "dense"])
    error = capsys.readouterr().err
    assert end.value.code != 0 and error.count("\n") == 1
    assert "torchmetrics" in error and "pip install 'reconsplat[train]'" in error
