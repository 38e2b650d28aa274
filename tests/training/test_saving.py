"""What a run writes: weights, state and metrics, also when something fails on the way."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from noise_scenes import noise_source
from safetensors.torch import load_file
from torch import nn

from recon.errors import InputError
from training.config import TrainConfig, read_config
from training.metrics_logger import METRICS, MetricsLogger
from training.network import configured_network
from training.run_folder import STATE, WEIGHTS
from training.state import read_progress
from training.trainer import Trainer


def tiny(out: Path, *more: str) -> TrainConfig:
    return read_config(None, [
        "network=gs-lrm", "size=tiny", "dataset.width=24", "dataset.height=16", "dataset.batch=1",
        "optimiser.steps=4", "optimiser.warmup=1", "save_every=100", "log_every=1",
        "validate_every=0", "tensorboard=false", "dataset.procedural.weight=0",
        "dataset.custom.noise.weight=1", f"out={out}", *more,
    ])  # fmt: skip


def test_a_save_that_fails_leaves_the_step_to_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state says that a step is done: it comes after the weights."""
    Trainer(tiny(tmp_path / "whole")).train()
    Trainer(tiny(tmp_path / "cut")).train(until=2)

    def full(*arguments: object) -> None:
        raise InputError("no room for the weights")

    again = Trainer(tiny(tmp_path / "cut"))
    again.resume()
    with monkeypatch.context() as patch:
        patch.setattr("training.trainer.save_checkpoint", full)
        with pytest.raises(InputError, match="no room for the weights"):
            again.train()
    assert again.saved_step == 2
    progress = read_progress(tmp_path / "cut" / STATE)
    assert progress is not None and progress["step"] == 2
    last = Trainer(tiny(tmp_path / "cut"))
    last.resume()
    last.train()
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_running_statistics_are_saved_with_the_averaged_weights(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    network = configured_network(config)
    norm = nn.BatchNorm1d(3)
    network.add_module("norm", norm)
    network.register_buffer("cache", torch.zeros(1), persistent=False)
    network.register_forward_pre_hook(lambda module, arguments: _counted(module, norm))
    Trainer(config, network=network).train()
    stored = load_file(tmp_path / WEIGHTS)
    assert float(norm.running_mean.abs().min()) > 0.1  # type: ignore[union-attr]
    assert torch.equal(stored["norm.running_mean"], norm.running_mean)
    assert int(stored["norm.num_batches_tracked"]) == 4


def _counted(network: nn.Module, norm: nn.BatchNorm1d) -> None:
    """Use a layer, and keep something whose shape changes for the next call."""
    network.cache = torch.zeros(len(network.cache) + 1)
    norm(torch.rand(8, 3))


def rows_of(folder: Path) -> list[dict[str, float]]:
    """Read the metrics as JSON, which has no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = (folder / METRICS).read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@pytest.mark.parametrize(
    "add",
    [
        lambda logger: logger.add({"total": math.nan}),
        lambda logger: logger.add({"total": math.inf}),
        lambda logger: logger.add({"total": 9.0}, skipped=True),
    ],
)
def test_skipped_steps_are_counted_apart(
    tmp_path: Path, add: Callable[[MetricsLogger], None]
) -> None:
    said: list[str] = []
    logger = MetricsLogger(tmp_path, said.append)
    logger.add({"total": 1.0})
    add(logger)
    logger.add({"total": 3.0})
    logger.write(3, 5, 1, 0.1)
    add(logger)
    logger.write(4, 5, 1, 0.1)
    logger.add({"total": 5.0})
    logger.write(5, 5, 1, 0.1)
    rows = rows_of(tmp_path)
    assert [row.get("total") for row in rows] == [2.0, None, 5.0]
    assert [row.get("skipped") for row in rows] == [1, 1, None]
    assert "loss 2.0000  1 skipped" in said[0] and "1 skipped" in said[1]
    assert "skipped" not in said[2]


def test_a_skipped_step_of_a_run_is_not_in_its_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finite = iter((True, False, True))
    descend = Trainer._descend
    monkeypatch.setattr(Trainer, "_descend", lambda self, good: descend(self, next(finite)))
    Trainer(tiny(tmp_path, "log_every=3")).train(until=3)
    (row,) = rows_of(tmp_path)
    assert row["skipped"] == 1 and math.isfinite(row["total"])
