"""The weights that come with recon."""

from pathlib import Path

import pytest
import torch
from conftest import ROOT
from network_helpers import random_batch

from recon.errors import ReconError
from recon.model import bundled
from recon.model.checkpoint import load_checkpoint
from recon.model.network_registry import run_network
from recon.model.registry import build_model
from recon.settings import ReconstructSettings
from training.evaluation.reconstruction import evaluate_case
from training.evaluation.suite import Case
from training.export_checkpoint import bundle

WEIGHTS = ROOT / "assets" / "sweep.safetensors"


def test_small_whole_and_with_a_licence() -> None:
    assert WEIGHTS.stat().st_size < 40e6
    found = load_checkpoint(WEIGHTS)
    assert found.name == "sweep" and found.provenance["licence"] == "Apache-2.0"
    assert all(p.dtype == torch.float32 for p in found.network.parameters())


def test_better_than_the_constant_on_the_sample(sample: Path) -> None:
    settings = ReconstructSettings(model="sweep", resolution=160)
    result = evaluate_case(Case(sample, "2v"), settings)
    ours, flat = (result.mean(name, "psnr") for name in ("sweep", "constant depth"))
    assert ours is not None and flat is not None and ours > flat + 1


def test_half_precision_changes_little(tmp_path: Path, generator: torch.Generator) -> None:
    bundle(WEIGHTS, tmp_path / "again.safetensors", "a copy", {"direct_px": 99})
    one, two = load_checkpoint(WEIGHTS), load_checkpoint(tmp_path / "again.safetensors")
    assert two.provenance["note"] == "a copy" and two.network.config.direct_px == 99
    batch = random_batch(generator, 1, 2, 32, 32)
    with torch.no_grad():
        a, b = (run_network(found.network, batch).depth for found in (one, two))
    assert torch.allclose(a, b, rtol=1e-3)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundled, "PLACES", (tmp_path,))
    with pytest.raises(ReconError, match="weights of model='sweep' are missing"):
        build_model("sweep")
