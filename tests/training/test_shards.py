"""Shards: what conversion keeps, what training reads from them, and folders written in pieces."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from re10k_files import frames_of, write_chunk, write_text

from recon.capture import load_capture, load_views
from recon.cli.main import main
from recon.errors import ConfigError, InputError
from recon.workers import ENDED, Results
from render import Cameras
from training.batches import make_batch
from training.config import read_config
from training.data.captures import posed_captures
from training.data.clips import RealEstate10KConfig, RealEstate10KScenes
from training.data.frames import viewmats_of_rows
from training.data.photo_windows import read_capture
from training.data.realestate10k import evaluation_views, open_clips, read_evaluation_index
from training.data.shards import ShardScenes, ShardsConfig
from training.data.shards import convert as convert_module
from training.data.shards.convert import convert
from training.data.shards.pack import ConvertOptions, _npy, pack_capture
from training.data.shards.tar import (
    INDEX,
    MANIFEST,
    PackedScene,
    count_scenes,
    open_shard,
    write_manifest,
    write_shard,
)
from training.data.types import SampleRequest, Skipped, Unusable, problem_of
from training.sources import build_source


@pytest.fixture(scope="module")
def chunks(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chunks")
    files, cameras = frames_of(sample, 7, 64)
    write_chunk(folder / "a.torch", {"one": (files, cameras), "t.w/o": (files[::-1], cameras)})
    write_chunk(folder / "b.torch", {"three": (files, cameras)})
    (folder / "c.torch").write_bytes(b"not a chunk")
    return folder


@pytest.fixture(scope="module")
def shards(chunks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    text = convert(chunks, out, ConvertOptions())
    assert ": 3 scenes in 3 shards, " in text and f", 1 skipped (see {out}/skipped.jsonl)" in text
    return out


@pytest.fixture(scope="module")
def photos(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes of the same photos in two tar files."""
    folder = tmp_path_factory.mktemp("photos")
    scene = pack_capture(read_capture(sample), sample, ConvertOptions(side=48))
    for number, keys in enumerate(("klm", "n")):
        scenes = [replace(scene, key=key).to_tar() for key in keys]
        write_shard(folder / f"{number:06d}.tar", scenes)
    write_manifest(folder)
    return folder


def test_batches_of_shards_are_those_of_chunks(chunks: Path, shards: Path) -> None:
    batches = []
    for folder in (chunks, shards):
        config = read_config(None, [
            "dataset.width=32", "dataset.height=24", "dataset.procedural.weight=0",
            "dataset.realestate10k.weight=1", f"dataset.realestate10k.folder={folder}",
            "dataset.realestate10k.gap=[3,6]",
        ])  # fmt: skip
        source = build_source(config.dataset, 0, "cpu")
        batches.append([make_batch(config, source, step) for step in (0, 60, 120, 180)])
    for one, two in zip(*batches, strict=True):  # depth is NaN
        assert one.context == two.context and one.cameras == two.cameras
        assert torch.equal(one.images, two.images)


def test_evaluation_index_reads_shards(shards: Path, tmp_path: Path) -> None:
    index = {"t.w/o": {"context": [0, 6], "target": [3]}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    skipped = Skipped()
    items = read_evaluation_index(tmp_path / "index.json", skipped)
    ((item, images, _),) = evaluation_views(shards, items, 32, 24, skipped)
    assert item.key == "t.w/o" and images.shape == (3, 3, 24, 32) and not skipped.reasons


def test_missing_and_broken_frames_keep_their_location(sample: Path, tmp_path: Path) -> None:
    files, cameras = frames_of(sample, 5, 64)
    write_text(tmp_path / "in", "clip", [*files[:3], b"broken", files[4]], cameras)
    (tmp_path / "in" / "clip" / "66000.jpg").unlink()
    text = convert(tmp_path / "in", tmp_path / "out", ConvertOptions(side=32))
    assert text.endswith(", 2 of 5 frames missing or broken")
    (clip,) = open_clips(tmp_path / "out", Skipped())
    (before,) = open_clips(tmp_path / "in", Skipped())
    assert torch.equal(clip.viewmats, before.viewmats)
    assert torch.equal(clip.intrinsics, before.intrinsics)
    for index in range(5):
        if index in (1, 3):
            with pytest.raises(Unusable, match="missing frame"):
                clip.read(index)
        else:
            assert len(clip.read(index)) < len(before.read(index))


def test_conversion_goes_on_where_it_stopped(chunks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(chunks, out, ConvertOptions())
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    before = (out / "a.tar").stat().st_mtime_ns
    for name in ("b.tar", f"b{INDEX}", MANIFEST):
        (out / name).unlink()
    (out / ".recon-killed").mkdir()
    convert(chunks, out, ConvertOptions())
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert (out / "a.tar").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="was begun without --side, now it is 20; choose"):
        convert(chunks, out, ConvertOptions(side=20))
    with pytest.raises(InputError, match="contains other files"):
        convert(chunks, chunks, ConvertOptions())


def clips(folder: Path, frames: tuple[list[bytes], Cameras], *keys: str) -> Path:
    """Write clips as .txt files with frames."""
    for key in keys:
        write_text(folder, key, *frames)
    return folder


def test_a_source_that_grew_is_refused(sample: Path, tmp_path: Path) -> None:
    frames = frames_of(sample, 2, 32)
    source, out = clips(tmp_path / "in", frames, "city-0"), tmp_path / "out"
    convert(source, out, ConvertOptions(scenes=1))
    clips(source, frames, "aaa-0")
    message = (
        r"was begun with a FOLDER of 1 clip \(\w+\), now it is 2 clips .*; choose a new folder"
    )
    with pytest.raises(InputError, match=message):
        convert(source, out, ConvertOptions(scenes=1))
    assert [path.name for path in out.glob("*.tar")] == ["000000.tar"]


def test_chunks_may_be_added(sample: Path, tmp_path: Path) -> None:
    frames = frames_of(sample, 2, 32)
    for name in "ba":
        write_chunk(tmp_path / f"{name}.torch", {name: frames})
        text = convert(tmp_path, tmp_path / "out", ConvertOptions())
    assert ": 2 scenes in 2 shards, " in text
    assert list(open_shard(tmp_path / "out" / "a.tar").index) == ["a"]


def test_a_repaired_chunk_is_converted(sample: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    frames = frames_of(sample, 2, 32)
    write_chunk(source / "a.torch", {"a": frames})
    whole = (source / "a.torch").read_bytes()
    write_chunk(source / "b.torch", {"b": frames, "empty": ([b"", b""], frames[1])})
    (source / "a.torch").write_bytes(whole[:-100])
    text = convert(source, out, ConvertOptions(side=16))
    assert ", 2 skipped (see " in text  # the chunk, and the clip without an image
    (source / "a.torch").write_bytes(whole)
    (out / "skipped.jsonl").unlink()
    assert ": 2 scenes in 2 shards, " in convert(source, out, ConvertOptions(side=16))


def test_clips_that_were_left_out_are_tried_again(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = frames_of(sample, 2, 32)
    source, out = clips(tmp_path / "in", frames, "a", "b", "c", "d"), tmp_path / "out"
    (source / "b.txt").write_bytes(b"\xff\xfe")
    for path in (*(source / "c").iterdir(), *(source / "d").iterdir()):
        path.rename(path.with_suffix(".gone"))
    (source / "e.txt").write_text("notes")
    for _ in range(2):
        text = convert(source, out, ConvertOptions(scenes=2))
        assert ": 1 scene in 1 shard, " in text and ", 3 skipped" in text
        told = capsys.readouterr().err
    assert "2 of 2 shards are in" in told and "of that name: e.txt" in told
    rows = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [(row["key"], row["reason"]) for row in rows] == [
        ("b.txt", "unreadable txt file"),
        ("c.txt", "clip c whose 2 frames are missing or broken"),
        ("d.txt", "clip d whose 2 frames are missing or broken"),
    ]
    clips(tmp_path / "again", frames, "b", "c")
    (source / "b.txt").write_bytes((tmp_path / "again" / "b.txt").read_bytes())
    for path in (source / "c").iterdir():
        path.rename(path.with_suffix(".jpg"))
    (out / "skipped.jsonl").unlink()
    text = convert(source, out, ConvertOptions(scenes=2))
    assert ": 3 scenes in 2 shards, " in text and ", 1 skipped" in text
    assert list(open_shard(out / "000000.tar").index) == ["a", "b"]


@pytest.mark.parametrize("name", ["a.torch", "a.txt", "capture"])
def test_nothing_usable_leaves_nothing(name: str, sample: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "a").mkdir(parents=True)
    if name == "capture":
        (source / "a" / "transforms.json").write_bytes((sample / "transforms.json").read_bytes())
    else:
        (source / name).write_bytes(b"\xff broken")
    for made in (False, True):
        with pytest.raises(
            InputError, match="nothing in .*: unreadable|no captures with cameras: .*a"
        ):
            convert(source, out, ConvertOptions())
        assert out.exists() == made and not any(out.glob("*"))
        out.mkdir(exist_ok=True)


def test_captures_that_are_left_out_are_told(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    cameras = json.loads((sample / "transforms.json").read_text())
    cameras["frames"] = cameras["frames"][:2]
    for name in ("broken", "good"):
        for path in [sample / frame["file_path"] for frame in cameras["frames"]]:
            target = source / name / path.relative_to(sample)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"broken" if name == "broken" else path.read_bytes())
        (source / name / "transforms.json").write_text(json.dumps(cameras))
    text = convert(source, tmp_path / "out", ConvertOptions(side=16))
    assert ": 1 scene in 1 shard, " in text and ", 1 skipped (see " in text
    assert f"skipped {source}/broken: " in capsys.readouterr().err
    # Folders of shards beside the captures are none of them.
    for name in ("shards", "others", "shards"):
        (source / name).mkdir(exist_ok=True)
        convert(source, source / name, ConvertOptions(side=16))
    for name in ("shards", "others"):
        shutil.rmtree(source / name)
    # A folder of a single capture is read as that one, too.
    (source / "broken").rename(tmp_path / "broken")
    assert [path for path, _ in posed_captures(source)] == [source / "good"]


def test_a_process_that_ends_is_one_error(
    chunks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def results(function: object, jobs: list, *limits: object) -> Results:
        yield 0, ENDED
        yield from ((index, function(*job)) for index, job in jobs[1:])

    monkeypatch.setattr(convert_module, "local_results", results)
    message = (
        r"1 of 3 shards could not be written; .*a\.tar: the process ended .* goes on with them"
    )
    with pytest.raises(InputError, match=message):
        convert(chunks, tmp_path / "out", ConvertOptions(), processes=2)
    assert ": 3 scenes in 3 shards, " in convert(chunks, tmp_path / "out", ConvertOptions())


def test_offsets_are_found_without_an_index(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.tar"
    copy.write_bytes((shards / "a.tar").read_bytes())
    assert open_shard(copy).index == open_shard(shards / "a.tar").index
    # An index of another file does not count.
    (tmp_path / f"a{INDEX}").write_text(json.dumps({"bytes": 3, "members": {}}))
    os.utime(copy, (1, 1))
    assert list(open_shard(copy).index) == ["one", "t_w_o"]


def test_webdataset_reads_shards(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    found = list(
        webdataset.WebDataset(str(shards / "a.tar"), shardshuffle=False, empty_check=False)
    )
    assert [item["__key__"] for item in found] == ["one", "t_w_o"]
    assert found[0]["0003.jpg"] == open_shard(shards / "a.tar").read("one", "0003.jpg")
    assert json.loads(found[1]["json"])["key"] == "t.w/o"


def test_photos_of_captures_are_a_source(photos: Path, sample: Path) -> None:
    source = ShardScenes(ShardsConfig(folder=str(photos), held_out=0))
    request = SampleRequest(3, 2, 2, 40, 32)
    found = source.sample(request)
    assert problem_of(found, request) is None
    again = ShardScenes(ShardsConfig(folder=str(photos), held_out=0)).sample(request)
    assert torch.equal(found.images, again.images) and found.cameras == again.cameras
    # A photo with the camera of the first view has its pixels, up to compression.
    views = load_views(load_capture(sample), 64)
    distance = (views.cameras.centers.float() - found.cameras.centers[0]).norm(dim=1)
    nearest = int(distance.argmin())
    assert float(distance[nearest]) < 1e-4
    scale = 32 / 48
    rows = torch.nn.functional.interpolate(
        views.images[[nearest]], scale_factor=scale, mode="bilinear", antialias=True
    )
    left = (rows.shape[-1] - 40) // 2
    assert float((rows[0, :, :32, left : left + 40] - found.images[0]).abs().mean()) < 0.02
    assert float(found.near.min()) > 0 and bool(torch.isnan(found.depth).all())
    assert convert_module._tasks(sample, ConvertOptions(), sample / "out") == [
        ("000000.tar", [sample])
    ]


def test_depth_at_the_points_of_a_capture(photos: Path, tmp_path: Path) -> None:
    shard = open_shard(photos / "000000.tar")
    facts = shard.facts("k")
    files = {name: shard.read("k", name) for name in shard.index["k"] if name != "json"}
    center = viewmats_of_rows(torch.tensor(facts["viewmats"])).inverse()
    point = (
        center[:, :3, 3] + 1.5 * torch.tensor(facts["near"])[:, None] * center[:, :3, 2]
    ).numpy()
    facts["points"] = [f"{index:04d}.points.npy" for index in range(len(point))]
    files |= {n: _npy(p[None]) for n, p in zip(facts["points"], point, strict=True)}
    write_shard(tmp_path / "a.tar", [PackedScene("k", facts, files).to_tar()])
    source = ShardScenes(ShardsConfig(folder=str(tmp_path)))
    found = source.sample(SampleRequest(0, 2, 2, 40, 32))
    depth = [row[row.isfinite()] for row in found.depth]
    assert all(len(row) == 1 for row in depth)
    assert torch.allclose(torch.cat(depth), 1.5 * found.near, rtol=1e-4)


def test_every_scene_is_taken_once(photos: Path) -> None:
    source = ShardScenes(ShardsConfig(folder=str(photos), held_out=1))
    request, generator = SampleRequest(0), torch.Generator()
    for order in (0, 1):
        for epoch in (0, 1):
            indices = range(3 * epoch, 3 * epoch + 3)
            wanted = [replace(request, index=i, order=order) for i in indices]
            locations = {source._location(each, generator) for each in wanted}
            assert locations == {(photos / "000000.tar", row) for row in range(3)}
    held_out = replace(request, held_out=True, index=5)
    assert source._location(held_out, generator) == (photos / "000001.tar", 0)


def test_faults_are_one_error(photos: Path, shards: Path, tmp_path: Path) -> None:
    request = SampleRequest(0, 2, 1, 16, 16)
    with pytest.raises(ConfigError, match=r"read them by dataset\.realestate10k\.folder"):
        ShardScenes(ShardsConfig(folder=str(shards))).sample(request)
    with pytest.raises(InputError, match="no scenes in .tar files"):
        ShardScenes(ShardsConfig(folder=str(tmp_path))).sample(request)
    with pytest.raises(ConfigError, match="has 8 views, but context and targets need 9"):
        ShardScenes(ShardsConfig(folder=str(photos))).sample(replace(request, context=8))
    (tmp_path / "a.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(InputError, match=r"cannot read .*a\.tar"):
        ShardScenes(ShardsConfig(folder=str(tmp_path))).sample(request)
    scene = PackedScene("s", {"near": [1], "far": [2], "viewmats": [[0.0] * 12] * 3}, {})
    write_shard(tmp_path / "a.tar", [scene.to_tar()])
    with pytest.raises(InputError, match="scene s is damaged: it has no alpha; remove"):
        ShardScenes(ShardsConfig(folder=str(tmp_path))).sample(request)
    facts = {"near": [1] * 3, "far": [2] * 3, "alpha": False, "viewmats": [[0.0] * 12] * 3}
    facts |= {"frames": ["0.jpg"] * 3, "intrinsics": [[1.0, 1.0, 0.5, 0.5]] * 3}
    write_shard(tmp_path / "a.tar", [PackedScene("s", facts, {"0.jpg": b"broken"}).to_tar()])
    with pytest.raises(InputError, match="scene s is damaged: corrupt image; remove"):
        ShardScenes(ShardsConfig(folder=str(tmp_path))).sample(request)
    size = (tmp_path / "a.tar").stat().st_size
    for listed in ([], {"a.tar": 5}, {"a.tar": {"scenes": "x", "bytes": size}}):
        (tmp_path / MANIFEST).write_text(json.dumps({"shards": listed}))
        assert count_scenes(tmp_path) == [(tmp_path / "a.tar", 1)]
    (tmp_path / MANIFEST).write_text(
        json.dumps({"shards": {"a.tar": {"scenes": 9, "bytes": size}}})
    )
    with pytest.raises(InputError, match=r"a\.tar has 1 scenes, fewer than .*shards\.json says"):
        ShardScenes(ShardsConfig(folder=str(tmp_path), held_out=0)).sample(replace(request, seed=3))
    (tmp_path / MANIFEST).unlink()
    # A tar file that is damaged costs its clips, as a chunk does.
    (tmp_path / "a.tar").write_bytes(b"no tar file" * 100)
    clips = RealEstate10KScenes(RealEstate10KConfig(folder=str(tmp_path)))
    with pytest.raises(InputError, match="unreadable tar file"):
        clips.sample(request)


def test_shards_hold_nothing_to_unpickle(photos: Path) -> None:
    shard = open_shard(photos / "000000.tar")
    for key, members in shard.index.items():
        for name in members:
            assert name.endswith(("json", ".jpg", ".npy"))
            if name.endswith(".npy"):
                content = shard.read(key, name)
                assert content.startswith(b"\x93NUMPY") and np.dtype("f4").str.encode() in content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data"], "expected one of: data convert"),
        (["data", "convert", "IN"], "missing -o, --output OUT"),
        (["data", "convert", "nowhere", "-o", "OUT"], "no folder nowhere"),
        (["data", "convert", "IN", "-o", "OUT"], "no .torch chunks, no .txt files"),
        (
            ["data", "convert", "CLIPS", "-o", "/proc/x"],
            "folder /proc/x: No such file or directory; choose",
        ),
        (["data", "convert", "IN", "-o", "OUT", "--side", "0"], "--side must be at least 1"),
        (["data", "convert", "IN", "-o", "OUT", "--quality", "101"], "at most 100, found 101"),
    ],
)
def test_commands_explain_mistakes(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "clips" / "a").mkdir(parents=True)
    (tmp_path / "clips" / "a.txt").touch()
    words = [
        w.replace("CLIPS", str(tmp_path / "clips"))
        .replace("IN", str(tmp_path / "in"))
        .replace("OUT", str(tmp_path / "o"))
        for w in words
    ]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_conversion_leaves_the_number_of_threads(sample: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        convert(sample, tmp_path / "out", ConvertOptions(side=24))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
