"""Checkpoints: round trip, and errors for files that are not valid ones."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from network_helpers import random_batch
from safetensors.torch import load_file, save_file

from recon.cli.main import main
from recon.errors import ReconError
from recon.formats import load_gaussians
from recon.model.checkpoint import KEY, read_checkpoint, save_checkpoint, save_parts
from recon.model.inference import run_network
from recon.model.networks.gs_lrm import GsLrmConfig
from recon.model.registry import build_model, build_network, load_checkpoint, named_size
from recon.overlay import overlay


@pytest.fixture()
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(
        path, "gs-lrm", build_network("gs-lrm", named_size("gs-lrm", "tiny")), {"data": "noise"}
    )
    return path


def test_round_trip(checkpoint: Path, generator: torch.Generator) -> None:
    torch.manual_seed(0)
    network, batch = (
        build_network("gs-lrm", named_size("gs-lrm", "tiny")),
        random_batch(generator, 1, 2, 24, 16),
    )
    found = load_checkpoint(checkpoint)
    assert found.name == "gs-lrm" and found.provenance == {"data": "noise"}
    assert found.network.config == network.config
    with torch.no_grad():
        ours, theirs = run_network(network, batch), run_network(found.network, batch)
    assert torch.equal(ours.gaussians.means, theirs.gaussians.means)


def test_parts_are_read_as_one_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    folder, limit = tmp_path / "parts", 500_000
    save_parts(checkpoint, folder, limit)
    files = sorted(folder.iterdir())
    assert len(files) > 2 and all(file.stat().st_size <= limit for file in files)
    whole, found = load_file(checkpoint), load_checkpoint(folder)
    assert found.provenance == {"data": "noise"}
    assert all(
        torch.equal(whole[k].half().float(), v) for k, v in found.network.state_dict().items()
    )
    save_parts(checkpoint, folder, limit)  # replaces the folder
    files[1].unlink()
    with pytest.raises(ReconError, match="holds no complete checkpoint"):
        read_checkpoint(folder)
    with pytest.raises(ReconError, match="bytes, the limit is 1000"):
        save_parts(checkpoint, folder, 1000)


def test_ten_parts_and_more_are_read(tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole.safetensors", tmp_path / "parts"
    tensors = {f"layer{index}": torch.full((5000,), float(index)) for index in range(12)}
    header = {"network": "gs-lrm", "config": {}, "provenance": {}}
    save_file(tensors, whole, {KEY: json.dumps(header)})
    save_parts(whole, folder, 15_000)
    assert len(list(folder.iterdir())) == 12
    found, read = read_checkpoint(folder)
    assert found == header and set(read) == set(tensors)
    assert all(torch.equal(value.half(), read[key]) for key, value in tensors.items())


def rewrite(path: Path, **header: object) -> None:
    """Change the JSON header of a checkpoint."""
    found = load_checkpoint(path)
    config: Any = found.network.config
    old = {"network": "gs-lrm", "config": asdict(config), "provenance": {}}
    save_file(load_file(path), path, {KEY: json.dumps({**old, **header})})


def test_invalid_files(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ReconError, match=r"no checkpoint at .*x\.safetensors"):
        build_model(str(tmp_path / "x.safetensors"))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ReconError, match="is not a complete safetensors file"):
        load_checkpoint(cut)
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(ReconError, match="is not a complete safetensors file"):
        load_checkpoint(text)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(ReconError, match="holds weights that recon did not write"):
        load_checkpoint(foreign)


def test_headers_that_do_not_match_the_weights(checkpoint: Path) -> None:
    original = checkpoint.read_bytes()
    rewrite(checkpoint, network="nerf")
    with pytest.raises(ReconError, match="holds a 'nerf' network, which this version does not"):
        load_checkpoint(checkpoint)
    checkpoint.write_bytes(original)
    rewrite(checkpoint, config={"width": 64, "heads": 4, "layers": 4})
    with pytest.raises(ReconError, match=r"does not fit its own configuration: .* expected \("):
        load_checkpoint(checkpoint)
    checkpoint.write_bytes(original)
    rewrite(checkpoint, config={"widht": 64})
    with pytest.raises(ReconError, match="unknown key widht; did you mean width"):
        load_checkpoint(checkpoint)


def test_headers_with_underscores_load(checkpoint: Path) -> None:
    rewrite(checkpoint, network="gs_lrm")
    assert load_checkpoint(checkpoint).name == "gs-lrm"


def test_command_line_takes_a_checkpoint(checkpoint: Path, sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "scene.ply"
    options = ["--model", str(checkpoint), "--max-views", "2", "--resolution", "64", "--refine=0"]
    main([str(sample), "-o", str(out), *options])
    assert len(load_gaussians(out)) == 2 * 64 * 48


def test_command_line_names_a_broken_checkpoint(
    checkpoint: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    with pytest.raises(SystemExit) as end:
        main([str(sample), "-o", str(tmp_path / "s.ply"), "--model", str(checkpoint), "--quiet"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and "tiny.safetensors" in error
    assert not (tmp_path / "s.ply").exists()


def test_overlay_is_strict() -> None:
    config = GsLrmConfig()
    changed = overlay(config, {"width": 64, "head": {"scale_max": 1}}, "x.yaml")
    assert changed.width == 64 and changed.head.scale_max == 1.0
    assert changed.layers == config.layers and changed.head.depth == config.head.depth
    assert overlay(config, asdict(config), "x.yaml") == config
    for changes, message in (
        ({"heds": 3}, r"x.yaml: unknown key heds; did you mean heads\?"),
        ({"head": {"scale_mx": 3}}, r"x.yaml: unknown key head.scale_mx; did you mean scale_max\?"),
        ({"width": "wide"}, "x.yaml: width must be a whole number, found 'wide'"),
        ({"head": 3}, "x.yaml: head must hold named values, found 3"),
        ({"attention": "flash"}, "x.yaml: attention must be"),
    ):
        with pytest.raises(ReconError, match=message):
            overlay(config, changes, "x.yaml")


def test_overlay_merges_mappings() -> None:
    """An assignment keeps the entries that a file or an earlier assignment named."""

    @dataclass(frozen=True)
    class Options:
        custom: dict[str, Any] = field(default_factory=dict)

    config = overlay(Options(), {"custom": {"planes": {"weight": 1, "sides": [1, 2]}}}, "x.yaml")
    changed = overlay(config, {"custom": {"planes": {"sides": [3]}, "walls": {"weight": 2}}}, "")
    expected = {"planes": {"weight": 1, "sides": [3]}, "walls": {"weight": 2}}
    assert changed.custom == expected
    assert config.custom == {"planes": {"weight": 1, "sides": [1, 2]}}
    assert overlay(changed, {"custom": {"walls": 3}}, "").custom["walls"] == 3
