"""A shortened campaign: two stages of three steps, whole, interrupted, in two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from noise_scenes import noise_source
from safetensors.torch import load_file

from recon.errors import ReconError
from recon.model.checkpoint import save_checkpoint
from recon.model.registry import NETWORKS, build_network
from training.campaign.__main__ import main
from training.campaign.recipe import read_recipe
from training.campaign.run import Campaign, _continued
from training.campaign.stopping import PARENT, StopRequest
from training.metrics_logger import METRICS
from training.run_folder import STATE, WEIGHTS

FILE = """
out: runs/short
network: gs-lrm
size: tiny
dataset: {width: 24, height: 16, context: [2, 3], targets: 1, batch: 2,
  procedural: {weight: 0}, custom: {noise: {weight: 1}}}
optimiser: {steps: 3, warmup: 1}
validate_every: 0
tensorboard: false
log_every: 1
stages:
  - name: small
  - name: large
    start: raw
    dataset: {width: 32}
"""


# Its rate is too small to change a weight by more than 1e-29.
STAGE_WITH_FEEDBACK = """changes: {feedback_rounds: 1}
    optimiser: {lr: 1.0e-30, only: feedback}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("recipe") / "short.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def whole(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a campaign that ran without an interruption."""
    out: Path = tmp_path_factory.mktemp("whole")
    assert main(["--config", str(file), "--out", str(out)]) == 0
    return out


def stop_after(calls: int) -> Callable[[], bool]:
    """Return a request to stop that comes at the given call."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


def same_tensors(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_interrupted_campaign_gives_the_same_weights(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    """Stopped in the middle of a stage and between two of them."""
    campaign = Campaign(read_recipe(file, [f"out={tmp_path}"]))
    for calls, expected in ((2, ("small", 1, 2)), (3, ("large", 0, 6)), (3, ("large", 1, 8))):
        assert not campaign.run(stop_after(calls))
        assert campaign.position() == expected
    assert main(["--config", str(file), "--out", str(tmp_path)]) == 0
    assert campaign.position() == ("large", 3, 12)
    for stage in ("small", "large"):
        assert same_tensors(whole / stage / STATE, tmp_path / stage / STATE)
    rows = [json.loads(line) for line in (tmp_path / METRICS).open()]
    assert [(row["stage"], row["scenes"]) for row in rows] == [
        *(("small", scenes) for scenes in (2, 4, 6)),
        *(("large", scenes) for scenes in (8, 10, 12)),
    ]


def test_stages_follow_each_other(file: Path, whole: Path) -> None:
    """A stage begins with the raw or averaged weights of the previous one and its own seed."""
    stages = read_recipe(file).stages
    assert stages[0].config.seed != stages[1].config.seed
    alone = FILE.replace("  - name: small\n", "")
    file.with_name("alone.yaml").write_text(alone)
    assert read_recipe(file.with_name("alone.yaml")).stages[0].config.seed == stages[1].config.seed
    recipe = read_recipe(file, [f"out={whole}"])
    raw = _continued(recipe.stages[1], recipe.stages[0], "").state_dict()
    state = load_file(whole / "small" / STATE)
    assert all(torch.equal(raw[key], state[f"network.{key}"]) for key in raw)
    averaged = load_file(whole / "small" / WEIGHTS)
    assert not all(torch.equal(raw[key], averaged[key]) for key in raw)


def test_a_part_that_a_stage_left_out_is_that_of_the_start(tmp_path: Path) -> None:
    """The second stage trains error feedback, which the first one did without."""
    network = "changes: {feedback_rounds: 0}\nnetwork: cost-volume"
    document = FILE.replace("network: gs-lrm", network).replace("start: raw", STAGE_WITH_FEEDBACK)
    (tmp_path / "start.yaml").write_text(document)
    init = tmp_path / "start.safetensors"
    network = build_network("cost-volume", NETWORKS["cost-volume"].sizes["tiny"])
    save_checkpoint(init, "cost-volume", network, {})
    campaign = Campaign(read_recipe(tmp_path / "start.yaml", [f"out={tmp_path}", f"init={init}"]))
    assert campaign.run()
    start, first, second = (
        load_file(path)
        for path in (init, tmp_path / "small" / WEIGHTS, tmp_path / "large" / WEIGHTS)
    )
    assert not any(key.startswith("feedback") for key in first)
    for key, value in second.items():
        expected = start if key.startswith("feedback") else first
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-20)


@pytest.mark.slow
def test_two_processes_stop_on_a_signal_and_go_on(tmp_path: Path) -> None:
    """Processes save together, exit with 0, and resume bit for bit."""
    out, path = tmp_path / "cut", tmp_path / "procedural.yaml"
    path.write_text(FILE.replace("\n  procedural: {weight: 0}, custom: {noise: {weight: 1}}", ""))
    command = [sys.executable, "-m", "training.campaign", "--config", str(path), "--processes=2"]
    command += ["optimiser.steps=12", "stages.large.optimiser.steps=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        [*command, f"--out={out}", "save_every=1"], env=environment, stdout=subprocess.DEVNULL
    )
    while not (out / "small" / STATE).exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=300) == 0
    recipe = read_recipe(path, [f"out={out}", "optimiser.steps=12"])
    assert 0 < Campaign(recipe).position()[1] < 12
    for each in (out, tmp_path / "whole"):
        subprocess.run([*command, f"--out={each}"], env=environment, check=True, timeout=600)
    for stage in ("small", "large"):
        assert same_tensors(out / stage / STATE, tmp_path / "whole" / stage / STATE)


def test_reasons_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not StopRequest()()
    assert StopRequest(1e-9).reason == "time is up"
    with StopRequest().on_signals() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.reason == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setenv(PARENT, str(os.getppid()))
    assert not StopRequest()()
    monkeypatch.setenv(PARENT, str(os.getppid() + 1))
    assert "is gone" in str(StopRequest().reason)


def test_wrong_files_are_named(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def problem(text: str, *assignments: str) -> str:
        path = tmp_path / "wrong.yaml"
        path.write_text(text)
        with pytest.raises(ReconError) as caught:
            read_recipe(path, assignments)
        return str(caught.value)

    assert "expected one stage 'small'; there are two" in problem(FILE.replace("large", "small"))
    assert "start must be averaged or raw" in problem(FILE.replace("raw", "best"))
    assert "needs a name of small letters" in problem(FILE.replace("large", "A/B"))
    assert "at least one stage" in problem("network: gs-lrm")
    assert "large: unknown key datset" in problem(FILE.replace("    dataset", "    datset"))
    assert "there are small, large" in problem(FILE, "stages.huge.seed=1")
    assert "optimiser.steps must be at least 1, found -3" in problem(FILE, "optimiser.steps=-3")
    assert "optimiser.lr must be finite, found inf" in problem(FILE, "optimiser.lr=inf")
    assert main(["--config", str(file), "out=/proc/x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("campaign: error: out: cannot create") and error.count("\n") == 1


def test_a_changed_recipe_does_not_go_on(file: Path, whole: Path) -> None:
    with pytest.raises(ReconError, match="cannot resume .*: loss.\\w+ was "):
        Campaign(read_recipe(file, [f"out={whole}", "loss.depth=0.7"])).run()
