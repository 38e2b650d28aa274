"""Names of models, and the weights that come with the package."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from network_helpers import random_batch
from safetensors.torch import save
from torch import nn

from recon.capture import load_capture, load_views
from recon.config import OptimiseConfig, ReconstructConfig, ViewConfig
from recon.errors import ReconError
from recon.model import registry
from recon.model.api import NetworkOutput, ViewBatch
from recon.model.checkpoint import read_checkpoint, save_checkpoint
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.inference import NetworkModel, run_network
from recon.model.layers import precision
from recon.model.networks.cost_volume import SIZES, CostVolumeConfig
from recon.model.registry import (
    NETWORKS,
    NetworkKind,
    build_model,
    build_network,
    load_checkpoint,
    named_size,
)
from recon.pipeline import reconstruct
from training.evaluation.benchmark import evaluate
from training.evaluation.captures import EvaluateConfig
from training.evaluation.methods import recon_method
from training.evaluation.suite import Case, Suite

WEIGHTS = ROOT / "assets" / "cost_volume.safetensors"


def test_bundled_file_is_under_40_megabytes_and_has_a_licence() -> None:
    assert WEIGHTS.stat().st_size < 40e6
    found = load_checkpoint(WEIGHTS)
    assert found.name == "cost-volume" and found.provenance["licence"] == "Apache-2.0"
    assert all(p.dtype == torch.float32 for p in found.network.parameters())


def test_better_than_the_constant_on_the_sample(sample: Path) -> None:
    methods = {"cost-volume": recon_method(ReconstructConfig(model="cost-volume"))}
    suite = Suite((Case(sample, "2v"),))
    (result,) = evaluate(methods, suite, EvaluateConfig(resolution=160)).cases
    ours, flat = (result.mean(name, "psnr") for name in ("cost-volume", "constant depth"))
    assert ours is not None and flat is not None and ours > flat + 1


def test_half_precision_changes_little(tmp_path: Path, generator: torch.Generator) -> None:
    torch.manual_seed(0)
    one = build_network("cost-volume", named_size("cost-volume", "tiny")).eval()
    save_checkpoint(tmp_path / "half.safetensors", "cost-volume", one, {}, torch.float16)
    two = load_checkpoint(tmp_path / "half.safetensors").network
    batch = random_batch(generator, 1, 2, 32, 32)
    with torch.no_grad():
        a, b = (run_network(network, batch).depth for network in (one, two))
    assert torch.allclose(a, b, rtol=3e-3) and not torch.equal(a, b)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "WEIGHT_FOLDERS", (tmp_path,))
    with pytest.raises(ReconError, match="weights of the model cost-volume are missing"):
        build_model("cost-volume")


def test_checkpoints_with_the_old_name_load(tmp_path: Path) -> None:
    """Their headers also lack the fields that were added since; the defaults are what they mean."""
    network = build_network("cost-volume", CostVolumeConfig(SIZES["tiny"].pyramid, volume=8))
    new, old = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    save_checkpoint(new, "cost-volume", network, {})
    header, tensors = read_checkpoint(new)
    added = ("fine_rounds", "joint", "carry", "evidence", "feedback_rounds")
    config = {key: value for key, value in header["config"].items() if key not in added}
    old_header = {**header, "network": "sweep", "config": config}
    old.write_bytes(save(tensors, {"recon": json.dumps(old_header)}))
    found = load_checkpoint(old)
    assert found.name == "cost-volume" and found.network.config == network.config


def test_old_name_gives_the_new_one() -> None:
    for build in (build_model, lambda name: named_size(name, "base")):
        with pytest.raises(ReconError, match="sweep is now called cost-volume"):
            build("sweep")


def test_underscores_are_as_good_as_hyphens() -> None:
    assert type(build_model("constant_depth")) is type(build_model("constant-depth"))
    assert named_size("gs_lrm", "tiny") is named_size("gs-lrm", "tiny")
    assert isinstance(build_model("cost_volume"), NetworkModel)


def test_network_without_weights_asks_for_a_checkpoint() -> None:
    for name in ("gs_lrm", "gs-lrm", "epipolar"):
        with pytest.raises(ReconError, match="has no bundled weights; .* pass its .safetensors"):
            build_model(name)


def test_misspelled_name_gives_the_nearest() -> None:
    with pytest.raises(ReconError, match=r"did you mean plane-sweep\?"):
        build_model("plan-sweep")


@dataclass(frozen=True)
class WallConfig:
    """Configuration of a network of our own."""

    recompute: bool = False
    head: GaussianHeadConfig = field(default_factory=GaussianHeadConfig)


class Wall(nn.Module):
    """One learned raw value per channel, the same for every pixel."""

    def __init__(self, config: WallConfig) -> None:
        super().__init__()
        self.config = config
        self.raw = nn.Parameter(torch.zeros(config.head.channels))

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Put every pixel at the middle of the range."""
        b, v, _, h, w = batch.images.shape
        return activate(self.raw.expand(b, v, h, w, -1), batch, self.config.head)


def test_own_network_is_built_saved_and_loaded_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample: Path
) -> None:
    monkeypatch.setitem(NETWORKS, "my_wall", NetworkKind(Wall, WallConfig, {"base": WallConfig()}))
    network = build_network("my-wall", named_size("my_wall", "base"))
    save_checkpoint(tmp_path / "wall.safetensors", "my_wall", network, {})
    settings = ReconstructConfig(
        ViewConfig(max_views=2, resolution=64),
        model=str(tmp_path / "wall.safetensors"),
        optimise=OptimiseConfig(steps=0),
    )
    assert len(reconstruct(sample, settings).gaussians) == 2 * 64 * 48
    with pytest.raises(ReconError, match="the network my_wall has no bundled weights"):
        build_model("my-wall")


def test_bf16_changes_little(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = load_views(load_capture(sample), resolution=96)[:2]
    model, found = build_model("cost-volume"), []
    for has_bf16 in (False, True):
        monkeypatch.setattr(precision, "has_bf16", lambda device, has=has_bf16: has)
        found.append(model(views, lambda done: None))
    exact, coarse = found
    difference = (coarse.depth / exact.depth - 1).abs()
    assert float(difference.median()) < 2e-3 and not torch.equal(coarse.depth, exact.depth)
    assert coarse.depth.dtype == torch.float32
    assert all(t.dtype == torch.float32 for t in vars(coarse.gaussians).values())
