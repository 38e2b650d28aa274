"""A user's own dataset, losses and network, without changes to the package."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import training
from recon.errors import ReconError
from recon.model.registry import build_network, named_size
from render import Cameras
from training import (
    LOSSES,
    SOURCES,
    LossInputs,
    SampleRequest,
    TrainConfig,
    Trainer,
    TrainingSample,
    WeightedLoss,
    build_source,
    configured_losses,
    read_config,
)
from training.losses import LossConfig
from training.metrics_logger import METRICS
from training.network import load_initial_weights
from training.trainer import STATE

TINY = [
    "network=gs-lrm", "size=tiny", "dataset.width=24", "dataset.height=16", "optimiser.steps=4",
    "optimiser.warmup=1", "save_every=2", "validate_every=2", "validation_scenes=1",
    "tensorboard=false",
]  # fmt: skip


def tiny(out: Path, *more: str) -> TrainConfig:
    return read_config(None, [*TINY, f"out={out}", *more])


@dataclass
class Wall:
    """A flat wall of one random colour, seen by cameras in a row."""

    cut: int = 0

    def sample(self, request: SampleRequest) -> TrainingSample:
        v, h, w = request.views, request.height - self.cut, request.width
        color = torch.rand(3, generator=request.generator())
        viewmats = torch.eye(4).repeat(v, 1, 1)
        viewmats[:, 0, 3] = -0.2 * request.baseline * torch.arange(v)
        K = torch.tensor([[float(w), 0, w / 2], [0, float(w), h / 2], [0, 0, 1]])
        images = color[:, None, None].expand(v, 3, h, w).clone()
        depth = torch.full((v, h, w), 2.0)
        cameras = Cameras(viewmats, K.repeat(v, 1, 1), w, h)
        return TrainingSample(images, cameras, depth, torch.ones(v), torch.full((v,), 4.0))


def flatness(inputs: LossInputs) -> torch.Tensor:
    return inputs.rendered.rgb.diff(dim=-1).abs().mean()


def test_public_names_are_listed_and_found() -> None:
    assert set(training.__all__) <= set(dir(training))
    assert all(getattr(training, name) is not None for name in training.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        _ = training.Trainr


def test_own_dataset_and_losses_train_and_resume_to_the_bit(tmp_path: Path) -> None:
    losses = {**configured_losses(LossConfig()), "flat": WeightedLoss(flatness, 0.5)}
    Trainer(tiny(tmp_path / "whole"), Wall(), losses).train()
    Trainer(tiny(tmp_path / "parts"), source=Wall(), losses=losses).train(until=2)
    again = Trainer(tiny(tmp_path / "parts"), source=Wall(), losses=losses)
    again.resume()
    again.train()
    one, two = (load_file(tmp_path / name / STATE) for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    plain = Trainer(tiny(tmp_path / "plain"), Wall()).train()
    assert "flat" not in plain
    row = json.loads((tmp_path / "whole" / METRICS).open().readlines()[-1])
    expected = row["mse"] + 0.1 * row["depth"] + 0.5 * row["flat"]
    assert row["total"] == pytest.approx(expected, rel=1e-4) and row["flat"] > 0


def test_a_loss_may_stand_alone(tmp_path: Path) -> None:
    """Without mse, so that the log has no PSNR."""
    lines: list[str] = []
    trainer = Trainer(tiny(tmp_path), Wall(), {"flat": flatness}, report=lines.append)
    found = trainer.train(until=2)
    assert found["total"] == found["flat"]
    assert not any("PSNR" in line for line in lines) and any("flat" in line for line in lines)


def test_own_network_is_trained_and_its_checkpoint_is_read_again(tmp_path: Path) -> None:
    config = replace(named_size("gs-lrm", "tiny"), layers=1)
    network = build_network("gs-lrm", config)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    Trainer(tiny(tmp_path / "own"), Wall(), network=network).train(until=2)
    assert any(not torch.equal(network.state_dict()[key], before[key]) for key in before)
    again = build_network("gs-lrm", config)
    load_initial_weights(
        again, replace(tiny(tmp_path), init=str(tmp_path / "own" / "model.safetensors"))
    )
    with pytest.raises(
        ReconError, match="'cost-volume', which names .* but a GsLrmNetwork was passed"
    ):
        Trainer(tiny(tmp_path, "network=cost-volume"), Wall(), network=network)
    with pytest.raises(ReconError, match="unknown network 'mine'; expected one of"):
        Trainer(tiny(tmp_path, "network=mine"), Wall(), network=network)
    with pytest.raises(ReconError, match="Linear has no attribute `config`"):
        Trainer(tiny(tmp_path), Wall(), network=torch.nn.Linear(1, 1))


def test_samples_of_another_shape_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected images of shape \(\d, 3, 16, 24\), found"):
        Trainer(tiny(tmp_path), Wall(cut=1)).train()


def test_registered_sources_and_losses_are_configured_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "wall", lambda options, context: Wall(options["cut"]))
    monkeypatch.setitem(LOSSES, "flat", flatness)
    options = ("dataset.custom.wall={weight: 2, cut: 0}", "loss.custom.flat=0.25")
    config = tiny(tmp_path, *options)
    mixture = build_source(config.dataset, 0, "cpu")
    assert mixture.weights == (1.0, 2.0) and mixture.sources[1] == Wall(0)
    assert configured_losses(config.loss)["flat"] == WeightedLoss(flatness, 0.25)
    assert "flat" in Trainer(config).train(until=1)
    with pytest.raises(ReconError, match=r"dataset.custom.well: no such source .* added: wall"):
        build_source(tiny(tmp_path, "dataset.custom.well={weight: 1}").dataset, 0, "cpu")
    with pytest.raises(ReconError, match=r"loss.custom.flt: no such term .* added: flat"):
        configured_losses(tiny(tmp_path, "loss.custom.flt=1.0").loss)
    with pytest.raises(
        ReconError, match=r"dataset.custom.wall.weight must be a number, found None"
    ):
        build_source(tiny(tmp_path, "dataset.custom.wall={cut: 1}").dataset, 0, "cpu")


def test_earlier_names_of_keys_give_the_present_ones(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="the key data is now called dataset"):
        tiny(tmp_path, "data.width=64")
    file = tmp_path / "old.yaml"
    file.write_text('dataset:\n  meshes: {"share": 0.15}\n')
    with pytest.raises(
        ReconError, match=r"dataset.meshes.share is now called dataset.meshes.weight"
    ):
        read_config(file, [])


def test_assignments_add_to_named_options(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("loss: {custom: {l1: 1.0}}\ndataset: {custom: {planes: {weight: 2}}}\n")
    more = ["loss.custom.tv=0", "dataset.custom.planes.count=3", "changes.heads=2"]
    config = read_config(file, [*more, "changes.layers=1"])
    assert config.loss.custom == {"l1": 1.0, "tv": 0}
    assert config.dataset.custom == {"planes": {"weight": 2, "count": 3}}
    assert config.changes == {"heads": 2, "layers": 1}
