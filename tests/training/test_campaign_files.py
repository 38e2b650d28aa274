"""Files that a campaign writes: the exported weights, published parts, scores and curves."""

import json
import math
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_scenes import noise_source
from PIL import Image
from test_campaign import FILE

from recon.model.checkpoint import read_checkpoint
from recon.model.registry import load_checkpoint
from training.campaign.__main__ import main
from training.campaign.export import without_absolute_paths
from training.campaign.recipe import Recipe, ScoresConfig, read_recipe
from training.campaign.report import PLOT, draw_curves, write_report
from training.campaign.run import Campaign, CampaignOptions
from training.campaign.scores import DevelopmentScores, psnr_of_checkpoint
from training.metrics_logger import METRICS

MORE = """
attributions: ["bricks by A. Author, CC0"]
evaluate: {suite: SUITE, resolution: 64, every: 2}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "suite.yaml").write_text(f"root: {sample.parent}\ncases: {{{sample.name}: [2v]}}\n")
    path = folder / "short.yaml"
    path.write_text(FILE + MORE.replace("SUITE", str(folder / "suite.yaml")))
    return path


def scored(recipe: Recipe, lines: list[str]) -> DevelopmentScores:
    """Scores without an evaluation: as many dB as the checkpoint has steps."""

    def evaluator(path: Path, config: ScoresConfig, device: str) -> Mapping[str, float]:
        step = read_checkpoint(path)[0]["provenance"]["step"]
        return {"a/2v": 10.0 + step, "b/2v": 12.0 + step, "a/4v": 15.0}

    return DevelopmentScores(recipe.out, recipe.evaluate, lines.append, evaluator)


@pytest.fixture(scope="module")
def campaign(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Return a complete campaign with published files."""
    out: Path = tmp_path_factory.mktemp("campaign")
    captures = out / "captures" / "stone"
    captures.mkdir(parents=True)
    (captures / "SOURCE.txt").write_text("licence: CC-BY-4.0\nattribution: B. Author\n")
    recipe = read_recipe(file, [f"out={out}", "save_every=1"])
    options = CampaignOptions(publish=out / "published")
    done = Campaign(recipe, options, scores=scored(recipe, []))
    assert done.run()
    return done


def test_header_has_the_recipe_and_nothing_of_the_machine(
    file: Path, campaign: Campaign, tmp_path: Path
) -> None:
    target, out = tmp_path / "weights.safetensors", campaign.recipe.out
    arguments = ["export", str(target), "--config", str(file), f"--out={out}", "--note=a test"]
    assert main([*arguments, "head={scale_max: 0.25}"]) == 0
    found = load_checkpoint(target)
    config: Any = found.network.config
    assert config.head.scale_max == 0.25
    stages = found.provenance["stages"]
    assert [(s["name"], s["start"], s["step"]) for s in stages] == [
        ("small", "averaged", 3), ("large", "raw", 3)
    ]  # fmt: skip
    assert stages[1]["dataset"]["width"] == 32 and stages[0]["computed_on"]["processes"] == 1
    assert found.provenance["scenes"] == 12 and found.provenance["note"] == "a test"
    assert found.provenance["attributions"] == ["bricks by A. Author, CC0"]
    text = json.dumps(read_checkpoint(target)[0])
    for word in (tempfile.gettempdir(), str(out), str(Path.home()), socket.gethostname()):
        assert word not in text
    assert '"/' not in text


def test_export_is_the_same_wherever_the_campaign_ran(
    file: Path, campaign: Campaign, tmp_path: Path
) -> None:
    other = read_recipe(file, [f"out={tmp_path / 'again'}"])
    assert Campaign(other, scores=scored(other, [])).run()
    files = []
    for out in (campaign.recipe.out, other.out):
        files.append(tmp_path / f"{len(files)}.safetensors")
        assert main(["export", str(files[-1]), "--config", str(file), f"--out={out}"]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_captures_are_attributed(file: Path, campaign: Campaign) -> None:
    from training.campaign.export import _attributions

    folder = campaign.recipe.out / "captures"
    assert _attributions({"weight": 1, "folder": folder}) == ["stone: CC-BY-4.0, B. Author"]
    assert _attributions({"weight": 1, "folder": folder, "held_out": ["st*"]}) == []
    assert _attributions({"weight": 0, "folder": folder}) == []


def test_absolute_paths_become_relative() -> None:
    values = {"a": [str(Path.cwd() / "data" / "x"), "/elsewhere/photos"], "b": "data/y", "c": 1}
    assert without_absolute_paths(values) == {"a": ["data/x", "photos"], "b": "data/y", "c": 1}


def test_published_folder_starts_another_campaign(
    file: Path, campaign: Campaign, tmp_path: Path
) -> None:
    folder = campaign.options.publish
    assert folder is not None
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["losses.png", METRICS, "scores.jsonl", "scores.md", "weights"]
    recipe = read_recipe(file, [f"out={tmp_path}", f"init={folder / 'weights'}"])
    assert recipe.stages[0].config.init and not recipe.stages[1].config.init
    started = Campaign(recipe)._trainer(0).network.state_dict()
    weights = read_checkpoint(folder / "weights")[1]
    assert all(torch.equal(value, weights[key].float()) for key, value in started.items())


def test_scores_of_checkpoints(campaign: Campaign, tmp_path: Path) -> None:
    """At the first save after every second step, and at the end of a stage; once each."""
    rows = campaign.scores.rows()
    assert [(r["stage"], r["step"], r["scenes"]) for r in rows] == [
        ("small", 2, 4), ("small", 3, 6), ("large", 2, 10), ("large", 3, 12)
    ]  # fmt: skip
    assert rows[0]["psnr"] == {"a/2v": 12, "b/2v": 14, "a/4v": 15}
    table = (campaign.recipe.out / "scores.md").read_text().splitlines()
    assert table[2].startswith("| stage | step | scenes | 2v | 4v | all | a/2v |")
    assert table[4].startswith("| small | 2 | 4 | 13.00 | 15.00 | 13.67 | 12.00 |")
    assert campaign.run() and campaign.scores.rows() == rows


def test_scores_are_skipped_without_captures(file: Path, campaign: Campaign) -> None:
    lines: list[str] = []
    stage = campaign.recipe.stages[0]
    for suite in ("nowhere.yaml", str(file.with_name("lost.yaml"))):
        file.with_name("lost.yaml").write_text("root: lost\ncases: {fox: [2v]}\n")
        scores = DevelopmentScores(file.parent, ScoresConfig(suite), lines.append)
        scores.update(stage, 3, 6)
        scores.update(stage, 3, 6)
    assert len(lines) == 2 and "nowhere.yaml" in lines[0] and "lost/fox" in lines[1]


def test_a_checkpoint_is_evaluated(campaign: Campaign) -> None:
    path = campaign.recipe.out / "large" / "model.safetensors"
    found = psnr_of_checkpoint(path, campaign.recipe.evaluate, "cpu")
    assert list(found) == ["sample/2v"] and 3 < found["sample/2v"] < 30


def test_losses_that_are_not_finite_are_left_out(file: Path, tmp_path: Path) -> None:
    """Of files that an earlier version wrote, too."""
    recipe = read_recipe(file, [f"out={tmp_path}"])
    folder = recipe.stages[0].folder
    folder.mkdir(parents=True)
    rows = [{"step": 1, "total": 2.0}, {"step": 2, "total": math.nan}]
    (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(recipe, [{"scenes": 1, "psnr": {"a": math.nan}}])
    assert (tmp_path / PLOT).is_file() and "NaN" not in (tmp_path / METRICS).read_text()


def test_curves(campaign: Campaign) -> None:
    with Image.open(campaign.recipe.out / "losses.png") as image:
        assert image.size == (900, 4 * 220)  # total, depth, PSNR, development PSNR
    points = [(float(x), 1 / (1 + x)) for x in range(500)]
    drawn = np.asarray(draw_curves({"falling": points}, [250]))
    rows, columns = np.nonzero((drawn == (0, 0, 255)).all(-1))
    assert rows[columns < 100].mean() < rows[columns > 800].mean()
