"""Scenes that are written to disk once and read as a source."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recon.errors import InputError, ReconError
from render import Cameras
from training.batches import seed_of
from training.config import read_config
from training.data.store import STREAM, StorePlan, main, write_store
from training.data.stored import StoredConfig, StoredScenes, decode_depth, encode_depth
from training.data.types import SampleRequest, TrainingSample, problem_of
from training.sources import SOURCES

WIDTH, HEIGHT, VIEWS, SCENES = 32, 24, 4, 5
SETTINGS = [
    f"dataset.width={WIDTH}",
    f"dataset.height={HEIGHT}",
    "dataset.procedural.weight=0",
    "dataset.custom.random.weight=1",
]
CONFIG = read_config(None, SETTINGS)


class RandomScenes:
    """A source of scenes with random contents, which every seed changes."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        generator, count = request.generator(), request.views
        images = torch.rand(count, 3, request.height, request.width, generator=generator)
        near, far = (1 + torch.rand(2, generator=generator)) * torch.tensor([1.0, 5.0])
        draw = torch.rand(count, request.height, request.width, generator=generator)
        viewmats = torch.eye(4).repeat(count, 1, 1)
        viewmats[:, :3, 3] = torch.rand(count, 3, generator=generator)
        cameras = Cameras.from_focal(
            viewmats, 30.0, request.width, request.height, center_px=(15.5, 12.25)
        )
        ends = (end.repeat(count) for end in (near, far))
        return TrainingSample(images, cameras, near + (far - near) * draw, *ends)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "random", lambda options, context: RandomScenes())
        write_store(StorePlan(path, CONFIG, SCENES, VIEWS, shard=2))
        yield path


def source_of(folder: Path, **options: int) -> StoredScenes:
    return StoredScenes(StoredConfig(1.0, str(folder), **{"held_out": 1, **options}))


def position(sample: TrainingSample) -> tuple[float, ...]:
    """Identify a scene by the depth range, which its views have in common."""
    return round(float(sample.near[0]), 4), round(float(sample.far[0]), 4)


def test_stored_scenes_are_those_of_the_source(folder: Path) -> None:
    assert sorted(p.name for p in folder.glob("*.safetensors")) == [
        "000000.safetensors", "000002.safetensors", "000004.safetensors"
    ]  # fmt: skip
    source, request = source_of(folder, held_out=0), SampleRequest(3, 2, 1, WIDTH, HEIGHT)
    reference = RandomScenes()
    originals = {}
    for i in range(SCENES):
        made = SampleRequest(seed_of(CONFIG.seed, STREAM, i), VIEWS, 0, WIDTH, HEIGHT)
        original = reference.sample(made)
        originals[position(original)] = original
    for index in range(SCENES):
        sample = source.sample(replace(request, index=index))
        assert problem_of(sample, request) is None
        original = originals.pop(position(sample))
        for view in range(request.views):
            same = (original.cameras.viewmats - sample.cameras.viewmats[view]).abs().sum((1, 2))
            k = int(same.argmin())
            assert same[k] == 0
            assert float((original.images[k] - sample.images[view]).abs().max()) <= 0.5 / 255 + 1e-6
            error = (original.depth[k].log() - sample.depth[view].log()).abs()
            assert float(error.max()) < 1e-3
    assert not originals  # every scene was used once
    again = source.sample(replace(request, index=SCENES))
    assert position(again) in {position(source.sample(replace(request, index=i))) for i in range(5)}


def test_samples_depend_on_the_request_alone(folder: Path) -> None:
    request = SampleRequest(7, 2, 1, WIDTH, HEIGHT, index=2)
    one, two = (source_of(folder).sample(request) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.cameras.viewmats, two.cameras.viewmats)
    other = source_of(folder).sample(replace(request, seed=9))
    assert position(other) == position(one)  # the seed selects the views alone
    assert not torch.equal(other.images, one.images)
    source = source_of(folder)
    drawn = {position(source.sample(SampleRequest(s, 2, 1, WIDTH, HEIGHT))) for s in range(12)}
    assert len(drawn) > 2


def test_the_order_of_scenes_depends_on_the_run(folder: Path) -> None:
    source, request = source_of(folder, held_out=0), SampleRequest(0, 1, 1, WIDTH, HEIGHT)
    orders = {
        tuple(position(source.sample(replace(request, index=i, order=o))) for i in range(SCENES))
        for o in range(4)
    }
    assert len(orders) > 1 and all(len(set(order)) == SCENES for order in orders)


def test_held_out_scenes_are_for_validation_alone(folder: Path) -> None:
    source, request = source_of(folder, held_out=2), SampleRequest(0, 1, 1, WIDTH, HEIGHT)
    training, validation = (
        {position(source.sample(replace(request, index=i, held_out=h))) for i in range(8)}
        for h in (False, True)
    )
    assert len(training) == 3 and len(validation) == 2 and not training & validation
    first = source_of(folder, scenes=2)
    assert len(first.scenes) == 2
    with pytest.raises(ReconError, match="held_out is 0, but validation needs"):
        source_of(folder, held_out=0).sample(replace(request, held_out=True))


def test_smaller_images_keep_their_rays(folder: Path) -> None:
    source = source_of(folder)
    full, half, square = (
        source.sample(SampleRequest(1, 2, 1, *size, index=0))
        for size in ((WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2), (12, 12))
    )
    assert torch.allclose(half.cameras.Ks[:, :2] * 2, full.cameras.Ks[:, :2])
    assert float((half.images.mean((1, 2, 3)) - full.images.mean((1, 2, 3))).abs().max()) < 0.02
    assert square.images.shape == (3, 3, 12, 12)
    # The centre of the image shows the same point of the scene in both.
    middle = torch.tensor([[WIDTH / 2, HEIGHT / 2, 1.0]])
    rays = (
        torch.tensor([[s.cameras.width / 2, s.cameras.height / 2, 1.0]])
        @ torch.linalg.inv(s.cameras.Ks[0]).T
        for s in (half, square)
    )
    for ray in rays:
        assert torch.allclose(ray, middle @ torch.linalg.inv(full.cameras.Ks[0]).T, atol=1e-5)


def test_depth_codes_keep_unknown_and_infinite_depth() -> None:
    near, far = torch.tensor([0.5, 2.0]), torch.tensor([30.0, 3.0])
    depth = near[:, None, None] * (far / near)[:, None, None] ** torch.rand(2, 5, 6)
    depth[0, 0, 0], depth[1, 2, 3] = float("nan"), float("inf")
    decoded = decode_depth(encode_depth(depth, near, far), near, far)
    assert torch.allclose(decoded, depth, rtol=1e-3, equal_nan=True)
    ends = decode_depth(encode_depth(torch.tensor([[[0.1, 90.0]]] * 2), near, far), near, far)
    assert torch.allclose(ends[0], torch.tensor([[0.5, 30.0]]))


def test_interrupted_folders_are_completed_and_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = StorePlan(tmp_path, CONFIG, 3, 2, shard=2)
    write_store(plan)
    first, last = (tmp_path / name for name in ("000000.safetensors", "000002.safetensors"))
    kept, content = first.stat().st_mtime_ns, last.read_bytes()
    last.unlink()
    main([str(tmp_path), "--scenes", "4", "--views", "2", "--shard", "2", *SETTINGS])
    assert first.stat().st_mtime_ns == kept
    assert len(source_of(tmp_path).scenes) == 4
    longer = last.read_bytes()
    write_store(plan)  # what is there beyond a smaller plan is kept
    assert last.read_bytes() == longer != content
    write_store(StorePlan(tmp_path, CONFIG, 1, 2, shard=2))
    assert first.stat().st_mtime_ns == kept and len(source_of(tmp_path).scenes) == 4
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--scenes", "4", "--views", "3", "--shard", "2", *SETTINGS])
    assert "were written with views=2, not 3; choose another folder" in capsys.readouterr().err


def test_a_process_that_ends_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(ThreadPoolExecutor):
        def __init__(self, processes: int, context: object) -> None:
            super().__init__(processes)

    def end(*arguments: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr("training.data.store.ProcessPoolExecutor", Ended)
    monkeypatch.setattr("training.data.store._write_shards", end)
    with pytest.raises(InputError, match="the process ended .*; the same command goes on"):
        write_store(StorePlan(tmp_path, CONFIG, 3, 2, shard=2), processes=2)


def test_unusable_folders_and_requests_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="0 scenes in .* expected some"):
        source_of(tmp_path).sample(SampleRequest(0))
    with pytest.raises(ReconError, match="5 scenes in .* expected 9"):
        source_of(folder, scenes=9).sample(SampleRequest(0))
    with pytest.raises(ReconError, match="have 4 views, but context and targets need 5"):
        source_of(folder).sample(SampleRequest(0, 3, 2, WIDTH, HEIGHT))
    with pytest.raises(ReconError, match="32 x 24 px, expected at least the requested 48 x 24"):
        source_of(folder).sample(SampleRequest(0, 1, 1, 48, HEIGHT))
    (tmp_path / "000000.safetensors").write_bytes(b"broken")
    with pytest.raises(ReconError, match="cannot read .*000000.safetensors"):
        source_of(tmp_path).sample(SampleRequest(0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "0"], "--shard must be at least 1, found 0"),
        (["--processes", "0"], "--processes must be at least 1, found 0"),
        (["--scenes", "-1"], "--scenes must be at least 1, found -1"),
        (["--views", "0"], "--views must be at least 1, found 0"),
        (["dataset.width=0"], "dataset.width must be at least 8, found 0"),
    ],
)
def test_wrong_numbers_are_named_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "out"), "--scenes", "2", *SETTINGS, *words])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", bytes([255])])
def test_damaged_records_are_named(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store.json").write_bytes(content)
    (tmp_path / "file").touch()
    for folder, message in (("", "cannot read .*store.json"), ("file", "cannot create the folder")):
        with pytest.raises(SystemExit, match="2"):
            main([str(tmp_path / folder), "--scenes", "2", *SETTINGS])
        assert re.search(message, capsys.readouterr().err)
