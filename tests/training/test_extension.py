"""A user's own dataset, losses and network, without changes to the package."""

import inspect
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import training
from recon.cli.main import main
from recon.errors import ReconError
from recon.model.checkpoint import read_checkpoint
from recon.model.registry import build_network, named_size
from render import Cameras
from training import (
    LOSSES,
    SOURCES,
    LossInputs,
    Mixture,
    SampleRequest,
    TrainConfig,
    Trainer,
    TrainingSample,
    WeightedLoss,
    build_source,
    configured_losses,
    read_config,
)
from training.data.types import problem_of
from training.losses import LossConfig, weighted_losses
from training.metrics_logger import METRICS
from training.network import load_initial_weights
from training.run_folder import STATE, WEIGHTS

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
    """PSNR does not need the term mse."""
    lines: list[str] = []
    trainer = Trainer(tiny(tmp_path), Wall(), {"flat": flatness}, report=lines.append)
    found = trainer.train(until=2)
    assert found["total"] == found["flat"]
    said = [line for line in lines if line.startswith("step ")]
    assert said and all("PSNR" in line and "flat" in line for line in said)


def absolute_error(inputs: LossInputs) -> torch.Tensor:
    return (inputs.rendered.rgb - inputs.batch.images).abs().mean()


def test_mse_is_replaced_by_another_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By arguments and by the configuration: the same steps, and a PSNR of the images."""
    monkeypatch.setitem(LOSSES, "l1", absolute_error)
    named = tiny(tmp_path / "named", "log_every=1", "loss.mse=0", "loss.custom.l1=1")
    Trainer(named).train(until=2)
    losses = configured_losses(LossConfig())
    del losses["mse"]
    passed = tiny(tmp_path / "passed", "log_every=1")
    Trainer(passed, losses={**losses, "l1": absolute_error}).train(until=2)
    rows = [
        [json.loads(row) for row in (tmp_path / name / METRICS).open()]
        for name in ("named", "passed")
    ]
    for one, two in zip(*rows, strict=True):
        assert "mse" not in two and one["l1"] == pytest.approx(two["l1"], rel=1e-3)
        assert one["psnr"] == pytest.approx(-10 * math.log10(one["mse"]))
        assert two["psnr"] == pytest.approx(one["psnr"], rel=1e-3)


def test_own_terms_get_rendered_depth(tmp_path: Path) -> None:
    shapes = []

    def smoothness(inputs: LossInputs) -> torch.Tensor:
        depth = inputs.rendered.expected_depth
        assert inputs.rendered.depth.shape == depth.shape
        shapes.append(depth.shape)
        return depth.diff(dim=-1).abs().mean()

    losses = {**configured_losses(LossConfig()), "smooth": WeightedLoss(smoothness, 0.1)}
    found = Trainer(tiny(tmp_path), Wall(), losses).train(until=1)
    assert shapes[0][2:] == (1, 16, 24) and 0 < found["smooth"] < math.inf


@pytest.mark.parametrize(
    ("name", "term", "message"),
    [
        ("tv", lambda inputs: inputs.rendered.rgb.sum() * torch.nan, "loss tv: .* finite .* nan"),
        (
            "tv",
            lambda inputs: inputs.rendered.rgb,
            r"loss tv: .* scalar .* shape \(2, \d, 3, 16, 24",
        ),
        ("tv", lambda inputs: 0.5, "loss tv: expected a scalar tensor, found float 0.5"),
        ("tv", WeightedLoss(flatness, -1), "the weight of tv must be a number, 0 or more"),
        ("total", flatness, "losses: the name 'total' is reserved"),
    ],
)
def test_wrong_terms_are_named(tmp_path: Path, name: str, term: Any, message: str) -> None:
    with pytest.raises(ReconError, match=message):
        Trainer(tiny(tmp_path), Wall(), {name: term}).train(until=1)


@pytest.mark.parametrize("loss", [0.5, (flatness, 0.5)])
def test_terms_of_another_type_are_named(loss: Any) -> None:
    unchecked = inspect.unwrap(weighted_losses)  # without the tests' checks of types
    with pytest.raises(ReconError, match=r"losses: tv must be a WeightedLoss or a function"):
        unchecked({"tv": loss})


def test_a_diverging_network_is_not_blamed_on_a_term(tmp_path: Path) -> None:
    """Steps whose outputs are not finite are skipped, with own terms as without them."""
    lines: list[str] = []
    trainer = Trainer(tiny(tmp_path), Wall(), {"flat": flatness}, report=lines.append)
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(torch.nan)
    losses = {**configured_losses(LossConfig()), "mean": lambda x: x.output.depth.mean()}
    trainer.losses = weighted_losses(losses)
    trainer.train(until=1)
    assert any("step skipped" in line for line in lines)


def test_weights_of_terms_are_not_negative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "flat", flatness)
    assert "flat" not in configured_losses(tiny(tmp_path, "loss.custom.flat=0").loss)
    with pytest.raises(ReconError, match=r"loss.custom.flat must be a number, 0 or more, found -1"):
        configured_losses(tiny(tmp_path, "loss.custom.flat=-1").loss)
    with pytest.raises(ReconError, match=r"loss.custom.flat must be a number, found 'abc'"):
        tiny(tmp_path, "loss.custom.flat=abc")
    with pytest.raises(ReconError, match=r"dataset.custom.wall must hold named values, found 3"):
        tiny(tmp_path, "dataset.custom.wall=3")
    with pytest.raises(ReconError, match=r"loss.depth must be a number, 0 or more"):
        configured_losses(tiny(tmp_path, "loss.depth=-0.1").loss)


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
    with pytest.raises(ReconError, match=r"Wall: expected images of shape \(\d, 3, 16, 24\)"):
        Trainer(tiny(tmp_path), Wall(cut=1)).train()


@dataclass
class Changed:
    """Scenes of a wall with some fields changed."""

    changes: dict[str, Any]

    def sample(self, request: SampleRequest) -> TrainingSample:
        sample = Wall().sample(request)
        changes = dict(self.changes)
        cameras = replace(sample.cameras, **changes.pop("cameras", {}))
        return replace(sample, cameras=cameras, **changes)


REQUEST = SampleRequest(0, width=6, height=4)
CHANNELS = torch.ones(4, 3, 4, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": CHANNELS * 255}, "images in .0, 1., found values from 255 to 255"),
        ({"images": CHANNELS * torch.nan}, "images in .0, 1., found values from nan"),
        ({"images": CHANNELS - 1.5}, "images in .0, 1., found values from -0.5"),
        ({"images": CHANNELS.double()}, "images of dtype float32, found float64"),
        ({"cameras": {"width": 12}}, "cameras of the images' size 6 x 4, found 12 x 4"),
        ({"cameras": {"viewmats": torch.eye(4).expand(4, 4, 4) / 0}}, "finite cameras.viewmats"),
        ({"depth": torch.zeros(4, 4, 6)}, "or NaN where it is unknown, found 96 pixels"),
        ({"near": torch.full((4,), 5.0)}, "0 < near < far in every view, found 5 to 4, 5 to 4"),
        ({"near": torch.zeros(4)}, "0 < near < far in every view, found 0 to 4"),
        ({"far": torch.full((4,), torch.nan)}, "0 < near < far .* found 1 to nan"),
    ],
)
def test_wrong_samples_are_named(changes: dict[str, Any], message: str) -> None:
    problem = problem_of(Changed(changes).sample(REQUEST), REQUEST)
    assert problem is not None and re.search(f"expected .*{message}", problem)


def test_right_samples_have_no_problem(tmp_path: Path) -> None:
    assert problem_of(Wall().sample(REQUEST), REQUEST) is None
    unknown = Changed({"depth": torch.full((4, 4, 6), torch.nan)})
    assert problem_of(unknown.sample(REQUEST), REQUEST) is None
    mixture = Mixture((Wall(cut=1),), (1.0,), ("walls",))
    with pytest.raises(ReconError, match="source walls: expected images of shape"):
        Trainer(tiny(tmp_path), mixture).train(until=1)


def test_a_run_says_what_it_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "wall", lambda options, context: Wall())
    lines: list[str] = []
    Trainer(tiny(tmp_path / "both", "dataset.custom.wall.weight=3"), report=lines.append).train(1)
    only = ("dataset.custom.wall.weight=1", "dataset.procedural.weight=0")
    Trainer(tiny(tmp_path / "one", *only), report=lines.append).train(1)
    Trainer(tiny(tmp_path / "own"), Wall(), report=lines.append).train(1)
    said = [line for line in lines if line.startswith("scenes: ")]
    assert said == ["scenes: procedural 25 %, wall 75 %", "scenes: wall 100 %", "scenes: Wall"]


def test_a_launcher_adds_names_to_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOURCES, "mine", lambda options, context: Wall())
    monkeypatch.setitem(LOSSES, "mine", flatness)
    own = ["dataset.custom.mine.weight=1", "loss.custom.mine=0.1", f"out={tmp_path}", "log_every=1"]
    main(["train", *TINY, *own, "--until", "1"])
    said = capsys.readouterr().out
    assert "scenes: procedural 50 %, mine 50 %" in said and "  mine 0." in said
    with pytest.raises(SystemExit) as end:
        main(["train", *TINY, *own])
    assert end.value.code == 2
    assert "already contains a run; pass --resume" in capsys.readouterr().err


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    trainer = Trainer(tiny(tmp_path), Wall())
    trainer.train(until=1)
    trainer.train(until=2)
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(ReconError, match="already contains a run; pass --resume, or another out="):
        Trainer(tiny(tmp_path), Wall()).train(until=1)
    assert (tmp_path / STATE).read_bytes() == before


def test_checkpoints_record_what_was_passed(tmp_path: Path) -> None:
    losses = {**configured_losses(LossConfig()), "flat": WeightedLoss(flatness, 0.5)}
    Trainer(tiny(tmp_path / "own"), Wall(), losses).train(until=1)
    provenance = read_checkpoint(tmp_path / "own" / WEIGHTS)[0]["provenance"]
    assert provenance["source"] == "Wall"
    assert provenance["losses"] == {"mse": 1.0, "depth": 0.1, "flat": 0.5}
    Trainer(tiny(tmp_path / "plain")).train(until=1)
    assert not {"source", "losses"} & set(
        read_checkpoint(tmp_path / "plain" / WEIGHTS)[0]["provenance"]
    )


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
    with pytest.raises(ReconError, match=r"dataset.custom.well: no such source .* added: wall;"):
        build_source(tiny(tmp_path, "dataset.custom.well={weight: 1}").dataset, 0, "cpu")
    with pytest.raises(
        ReconError,
        match=r"loss.custom.flt: no such term .* added: flat; .*'Sources and losses by name'",
    ):
        configured_losses(tiny(tmp_path, "loss.custom.flt=1.0").loss)
    with pytest.raises(ReconError, match=r"dataset.custom.wall.weight must be a number, found 'a'"):
        build_source(tiny(tmp_path, "dataset.custom.wall.weight=a").dataset, 0, "cpu")
    with pytest.raises(ReconError, match=r"dataset.custom.wall has no weight \(has: wieght, cut\)"):
        build_source(tiny(tmp_path, "dataset.custom.wall={wieght: 1, cut: 1}").dataset, 0, "cpu")


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
