"""Validation: its scores, and the scenes that are held out for it."""

import itertools
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import trimesh
from noise_scenes import NoiseScenes, noise_source
from re10k_files import frames_of, write_chunk, write_text
from torch import nn

from recon.errors import ConfigError, InputError
from recon.model.api import NetworkOutput, ViewBatch
from training.config import TrainConfig, read_config
from training.data.captures import CaptureScenes, CapturesConfig
from training.data.clips import RealEstate10KConfig, RealEstate10KScenes
from training.data.meshes import MeshesConfig, MeshScenes
from training.data.photo_windows import read_capture
from training.data.shards import ShardScenes, ShardsConfig
from training.data.shards.pack import ConvertOptions, pack_capture
from training.data.shards.tar import write_shard
from training.data.store import StorePlan, write_store
from training.data.stored import StoredConfig, StoredScenes
from training.data.types import SampleRequest, Source, TrainingSample, split_held_out
from training.network import configured_network
from training.validation import Validator


def tiny(*more: str) -> TrainConfig:
    return read_config(None, [
        "network=gs-lrm", "size=tiny", "dataset.width=24", "dataset.height=16",
        "dataset.context=[2,2]", "dataset.targets=1", "validation_scenes=1", *more,
    ])  # fmt: skip


class Broken(nn.Module):
    """A network whose depths are wrong in half of the image."""

    def __init__(self, network: nn.Module, depth: float) -> None:
        super().__init__()
        self.network, self.depth = network, depth

    def forward(self, views: ViewBatch) -> NetworkOutput:
        output: NetworkOutput = self.network(views)
        depth = output.depth.clone()
        depth[..., :12] = self.depth
        return replace(output, depth=depth)


@pytest.mark.parametrize("depth", [math.nan, math.inf, -1.0, 0.0])
def test_broken_depths_do_not_improve_the_score(depth: float) -> None:
    config = tiny()
    torch.manual_seed(0)
    network = configured_network(config)
    validator = Validator(config, NoiseScenes(), "cpu", "cpu")
    right = validator(network).scores["depth"]
    (batch,) = validator.batches
    wrong = validator(Broken(network, depth)).scores["depth"]
    largest = float((batch.context.far / batch.context.near).log().mean())
    assert math.isfinite(wrong) and wrong > max(right, 0.45 * largest)


def test_depth_is_scored_where_it_is_known() -> None:
    config = tiny()
    validator = Validator(config, NoiseScenes(), "cpu", "cpu")
    network = configured_network(config)
    depth = validator.batches[0].depth
    depth[..., :12] = math.nan
    assert math.isfinite(validator(network).scores["depth"])
    depth[:] = math.nan
    assert "depth" not in validator(network).scores


def poses_of(sample: TrainingSample) -> set[tuple[float, ...]]:
    """Identify the views of a sample: those of other scenes are elsewhere."""
    return {tuple(row) for row in sample.cameras.centers.mul(1e4).round().tolist()}


def _clips(folder: Path, sample: Path, chunks: bool) -> Source:
    files, cameras = frames_of(sample, 5, 24)
    scenes = {}
    for index in range(4):
        moved = cameras.viewmats.clone()
        moved[:, 0, 3] += 10 * index
        scenes[f"clip{index}"] = (files, replace(cameras, viewmats=moved))
    if chunks:
        write_chunk(folder / "0.torch", dict(list(scenes.items())[:2]))
        write_chunk(folder / "1.torch", dict(list(scenes.items())[2:]))
    else:
        for key, (images, placed) in scenes.items():
            write_text(folder, key, images, placed)
    return RealEstate10KScenes(RealEstate10KConfig(folder=str(folder), gap=(2, 4)))


def _meshes(folder: Path, sample: Path) -> Source:
    for index in range(3):
        trimesh.creation.box((1, 1, 1 + index)).export(folder / f"{index}.glb")
    cache = str(folder / "cache")
    return MeshScenes(MeshesConfig(folder=str(folder), cache=cache, rendered=4))


def _captures(folder: Path, sample: Path, names: tuple[str, ...] = ("b",)) -> Source:
    for index, name in enumerate("abc"):
        shutil.copytree(sample, folder / name)
        path = folder / name / "transforms.json"
        document = json.loads(path.read_text())
        for frame in document["frames"]:
            frame["transform_matrix"][0][3] += 50 * index
        path.write_text(json.dumps(document))
    return CaptureScenes(CapturesConfig(folder=str(folder), neighbours=3, held_out=names))


def _shards(folder: Path, sample: Path) -> Source:
    scene = pack_capture(read_capture(sample), sample, ConvertOptions(side=24))
    scenes = []
    for index in range(3):
        moved = [[*row[:3], row[3] + 50 * index, *row[4:]] for row in scene.facts["viewmats"]]
        facts = {**scene.facts, "viewmats": moved}
        scenes.append(replace(scene, key=str(index), facts=facts).to_tar())
    write_shard(folder / "000000.tar", scenes)
    return ShardScenes(ShardsConfig(folder=str(folder)))


def _stored(folder: Path, sample: Path) -> Source:
    config = tiny("dataset.procedural.weight=0", "dataset.custom.noise.weight=1")
    write_store(StorePlan(folder, config, 4, 4))
    return StoredScenes(StoredConfig(folder=str(folder)))


@pytest.mark.parametrize(
    "build",
    [
        partial(_clips, chunks=True),
        partial(_clips, chunks=False),
        _meshes,
        _captures,
        _shards,
        _stored,
    ],
    ids=["chunks", "texts", "meshes", "captures", "shards", "stored"],
)
def test_held_out_scenes_are_never_trained_on(
    build: Callable[[Path, Path], Source], tmp_path: Path, sample: Path
) -> None:
    source = build(tmp_path, sample)
    found: dict[bool, set[tuple[float, ...]]] = {False: set(), True: set()}
    for part, index in itertools.product(found, range(12)):
        request = SampleRequest(index, 2, 1, 16, 16, step=50 * index, index=index, held_out=part)
        found[part] |= poses_of(source.sample(request))
    assert all(found.values()) and not found[False] & found[True]


def test_where_nothing_can_be_held_out_it_is_said(
    tmp_path: Path, sample: Path, recwarn: pytest.WarningsRecorder
) -> None:
    request = SampleRequest(0, 2, 1, 16, 16, held_out=True)
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "only.glb")
    with pytest.raises(ConfigError, match=r"dataset\.meshes\.held_out is 32, but validation needs"):
        MeshScenes(MeshesConfig(folder=str(tmp_path))).sample(request)
    write_text(tmp_path, "only", *frames_of(sample, 5, 24))
    options = RealEstate10KConfig(folder=str(tmp_path), gap=(2, 4))
    with pytest.raises(ConfigError, match=r"realestate10k\.held_out is 0.05.*validate_every=0"):
        RealEstate10KScenes(options).sample(request)
    RealEstate10KScenes(options).sample(replace(request, held_out=False))
    write_chunk(tmp_path / "0.torch", {"only": frames_of(sample, 5, 24)})
    with pytest.raises(InputError, match="no usable clip that is held out in"):
        RealEstate10KScenes(options).sample(request)
    CaptureScenes(CapturesConfig(folder=str(sample), neighbours=3)).sample(request)
    assert any("captures.held_out names no capture" in str(each.message) for each in recwarn)


def test_a_mesh_that_is_added_moves_one_other_at_most() -> None:
    names = [f"{i}.glb" for i in range(40)]
    before = split_held_out(names, names, 8)[1]
    after = split_held_out([*names, "new"], [*names, "new"], 8)[1]
    assert len(before) == len(after) == 8 and len(set(before) ^ set(after)) <= 2
    # Those of the same name stay together.
    twice = split_held_out(list("abab"), list("abab"), 1)
    assert sorted("".join(part) for part in twice) == ["aa", "bb"]
