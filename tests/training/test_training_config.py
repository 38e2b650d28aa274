"""Configurations of training runs: what is read, and values that cannot be right."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from recon.cli.main import main
from recon.errors import ConfigError, ReconError
from recon.model.registry import NETWORKS
from training.bounds import BOUNDS, PAIRS, check_network_bounds, numbered
from training.campaign.recipe import read_recipe
from training.config import TrainConfig, check_config, network_config, read_config
from training.evaluation.suite import read_suite
from training.losses import LossConfig
from training.network import configured_network


def problem(*assignments: str) -> str:
    """Return the message about a configuration."""
    with pytest.raises(ConfigError) as caught:
        config = read_config(None, list(assignments))
        check_config(config)
        configured_network(config)
    return str(caught.value)


def test_scientific_notation_is_a_number() -> None:
    config = read_config(None, ["optimiser.lr=1e-4", "precision=bf16"])
    assert config.optimiser.lr == 1e-4 and config.precision == "bf16"
    assert replace(config, precision="fp32") != config


def test_every_recipe_is_read() -> None:
    recipes, suites = 0, 0
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        keys = set(yaml.safe_load(path.read_text()))
        if keys & {"cases", "realestate10k"}:
            read_suite(path)
            suites += 1
        elif "stages" in keys:
            read_recipe(path)
            with pytest.raises(ReconError, match="run it by python -m training.campaign"):
                read_config(path, [])
        else:
            config = read_config(path, [])
            network_config(config)
            recipes += 1
    assert recipes >= 4 and suites >= 2


def test_every_number_has_bounds() -> None:
    """A new field needs an entry; the weights of losses are checked with the losses."""
    names = {name for name, _ in numbered(TrainConfig())}
    of_losses = {f"loss.{each.name}" for each in fields(LossConfig)}
    empty = {"changes", "dataset.custom", "dataset.captures.exclude", "dataset.captures.held_out"}
    assert names - of_losses - empty == set(BOUNDS) and set(PAIRS) <= set(BOUNDS)
    check_config(TrainConfig())
    for kind in NETWORKS.values():
        for size in kind.sizes.values():
            check_network_bounds(size)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("optimiser.clip=-1", "above 0"),
        ("optimiser.clip=0", "above 0"),
        ("optimiser.ema=2", "at least 0 and at most 1"),
        ("optimiser.beta1=1.5", "at least 0 and below 1"),
        ("optimiser.beta2=1", "at least 0 and below 1"),
        ("optimiser.weight_decay=-1", "at least 0"),
        ("optimiser.lr=.nan", "finite"),
        ("optimiser.lr=.inf", "finite"),
        ("dataset.slack=-9", "at least 0 and at most 5"),
        ("curriculum.resolution=-1", "above 0 and at most 1"),
        ("curriculum.views=0", "at least 1"),
        ("curriculum.baseline=-2", "above 0"),
        ("dataset.shards.neighbours=-5", "at least 1"),
        ("dataset.shards.held_out=-5", "at least 0"),
        ("dataset.procedural.weight=-1", "at least 0"),
        ("dataset.captures.weights={a: -1}", "at least 0"),
        ("dataset.captures.angles_deg=[1,200]", "at least 0 and at most 180"),
        ("dataset.realestate10k.gap=[5,2]", "a minimum and a maximum, such as [25, 45]"),
        ("dataset.realestate10k.gap=[0,2]", "at least 1"),
        ("dataset.context=[0,2]", "at least 1"),
        ("seed=-1", "at least 0 and at most 9223372036854775807"),
    ],
)
def test_numbers_that_cannot_be_right_are_named(assignment: str, expected: str) -> None:
    name = assignment.partition("=")[0]
    assert problem(assignment).startswith(f"{name} must be {expected}, found ")


def test_networks_that_cannot_be_built_are_named() -> None:
    for network, change, message in (
        ("gs-lrm", "head.sh_degree=9", "changes.head.sh_degree must be at least 0 and at most 4"),
        ("long-lrm", "anchors=-1", "changes.anchors must be at least 0, found -1"),
        ("gs-lrm", "heads=0", "changes.heads must be at least 1, found 0"),
        ("gs-lrm", "heads=7", "changes: gs-lrm tiny with {'heads': 7} cannot be built: width 128"),
        ("cost-volume", "planes=7", "changes: planes and fine_planes must be multiples of 4"),
        ("cost-volume", "pyramid.channels=[0,1,2]", "changes.pyramid.channels must be at least 1"),
    ):
        assert message in problem(f"network={network}", "size=tiny", f"changes.{change}")
    assert "dataset.realestate10k.near must be below far" in problem(
        "dataset.realestate10k.near=1e3"
    )


def test_values_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for assignment, message in (
        ("optimiser.lr=[", "'optimiser.lr=[': the value is not YAML: line 1, column 2: "),
        ("dataset.context=[2]", "dataset.context must be a list of 2 whole numbers, found [2]"),
        ("dataset.captures.exclude=3", "exclude must be a list of texts, found 3"),
        ("dataset.captures.exclude=abc", "exclude must be a list of texts, found 'abc'"),
        ("changes=3", "changes must be named values, such as {name: value}, found 3"),
        ("out=", "out must be text, found nothing"),
        ("out=''", "out must be the folder of the run, found nothing"),
    ):
        assert message in problem(assignment)
    file = tmp_path / "x.yaml"
    file.write_text("size: tiny\nchanges: {layers: 1\n")
    with pytest.raises(ConfigError, match=r"x.yaml: line 3, column 1: expected ',' or '}'"):
        read_config(file, [])
    with pytest.raises(ConfigError, match=r"nowhere.yaml: No such file or directory$"):
        read_config(tmp_path / "nowhere.yaml", [])


def test_the_device_is_called_by_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """There is no flag --device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        main(["train", "device=cuda", f"out={tmp_path / 'run'}"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and "--device" not in error
    assert "device='cuda': torch sees no CUDA GPU; use device='cpu'" in error
