"""RealEstate10K's formats, on files written in them from a real capture or from the sample."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from re10k_files import camera_rows, frames_of, write_chunk, write_text

from recon.capture import load_capture, load_views
from recon.errors import InputError, ReconError
from render import Cameras
from training.data.realestate10k import (
    Skipped,
    Unusable,
    evaluation_views,
    load_frames,
    open_clips,
    read_evaluation_index,
)
from training.data.shards.convert import convert
from training.data.shards.pack import ConvertOptions
from training.data.write_clips import main as write_clips_main
from training.data.write_clips import video_order, write_clips

Frames = tuple[list[bytes], Cameras]


@pytest.fixture(scope="module", params=["sample", "fox"])
def frames(request: pytest.FixtureRequest) -> Frames:
    folder = request.getfixturevalue("sample")
    if request.param == "fox":
        folder = request.getfixturevalue("captures") / "fox"
    return frames_of(folder, 5, 96)


@pytest.fixture(params=["chunk", "text"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, frames: Frames) -> Path:
    if request.param == "chunk":
        write_chunk(tmp_path / "000000.torch", {"aaaa": frames})
    else:
        write_text(tmp_path, "aaaa", *frames)
    return tmp_path


def test_cameras_and_images_are_read_again(folder: Path, frames: Frames) -> None:
    _, cameras = frames
    skipped = Skipped()
    (clip,) = open_clips(folder, skipped)
    assert clip.key == "aaaa" and len(clip) == 5 and not skipped.reasons
    images, found = load_frames(clip, [3, 0], cameras.width, cameras.height)
    assert images.shape == (2, 3, cameras.height, cameras.width)
    assert torch.allclose(found.viewmats, cameras.viewmats[[3, 0]].float(), atol=1e-5)
    assert torch.allclose(found.Ks, cameras.Ks[[3, 0]].float(), rtol=1e-4, atol=1e-3)


def test_square_crop_keeps_the_rays(folder: Path, frames: Frames) -> None:
    """A point's pixel in the crop is its pixel in the photo, scaled and shifted."""
    _, cameras = frames
    (clip,) = open_clips(folder, Skipped())
    side = 48
    images, found = load_frames(clip, [2], side, side)
    assert images.shape == (1, 3, side, side)
    points = cameras.centers[2] + torch.randn(20, 3) * 0.1 + 3 * cameras.c2w[2, :3, 2]
    before, _ = cameras[[2]].project(points)
    after, _ = found.project(points.float())
    scale = side / min(cameras.width, cameras.height)
    size = torch.tensor([cameras.width, cameras.height]) * scale
    shift = ((size.round() - side) / 2).floor()
    expected = before[0].float() * (size.round() / torch.tensor([cameras.width, cameras.height]))
    assert torch.allclose(after[0], expected - shift, atol=0.02)


def test_evaluation_index(folder: Path, tmp_path: Path) -> None:
    index = {
        "aaaa": {"context": [0, 4], "target": [1, 2, 3]},
        "bbbb": None,
        "cccc": {"context": [0, 1], "target": [2]},
    }
    file = tmp_path / "index.json"
    file.write_text(json.dumps(index))
    skipped = Skipped()
    items = read_evaluation_index(file, skipped)
    assert [item.key for item in items] == ["aaaa", "cccc"]
    ((item, images, cameras),) = evaluation_views(folder, items, 32, 32, skipped)
    assert item.target == (1, 2, 3) and len(images) == len(cameras) == 5
    assert skipped.reasons == {
        "null entry of the index": 1,
        "clip of the index not found": 1,
    }


def test_broken_frames_are_skipped_and_counted(tmp_path: Path, frames: Frames) -> None:
    files, cameras = frames
    corrupt = [*files[:2], files[2][:300], b"no image", files[4]]
    good = {"good": frames, "bad": (corrupt, cameras)}
    write_chunk(tmp_path / "000000.torch", good)
    (tmp_path / "000001.torch").write_bytes(b"not a chunk")
    torch.save([{"key": "x"}], tmp_path / "000002.torch")
    index = {
        key: {"context": [0, 4], "target": [target]} for key, target in (("good", 2), ("bad", 2))
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    skipped = Skipped()
    items = read_evaluation_index(tmp_path / "index.json", skipped)
    found = [item.key for item, _, _ in evaluation_views(tmp_path, items, 32, 32, skipped)]
    assert found == ["good"]
    assert skipped.reasons == {
        "corrupt image": 1,
        "unreadable chunk": 1,
        "clip without key, cameras or images": 1,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", 'expected {"clip": {"context"'),
        ('{"aa": 5}', "clip aa: expected .*, found 5"),
        ('{"aa": {"context": [0]}}', "clip aa: expected"),
        ('{"aa": {"context": [], "target": [1]}}', "clip aa: expected"),
        ('{"aa": {"context": [0], "target": []}}', "at least one frame"),
        ('{"aa": {"context": [0], "target": ["1"]}}', "clip aa: expected"),
        ('{"aa": {"context": [0], "target": [-1]}}', "clip aa: expected"),
        ("\xff", "cannot read the evaluation index"),
    ],
)
def test_wrong_indices_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "index.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=message):
        read_evaluation_index(path, Skipped())


def test_damaged_facts_and_chunks_cost_their_clips(tmp_path: Path, frames: Frames) -> None:
    (tmp_path / "in").mkdir()
    write_chunk(tmp_path / "in" / "000000.torch", {"aaaa": frames})
    convert(tmp_path / "in", tmp_path / "out", ConvertOptions(32))
    shard = tmp_path / "out" / "000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b'"0001.jpg", ', 12 * b" "))  # a list that is too short
    (clip,) = open_clips(tmp_path / "out", Skipped())
    with pytest.raises(Unusable, match="missing frame"):
        load_frames(clip, [4], 32, 32)
    skipped = Skipped()
    for number, junk in enumerate([b"junk", b"version https://git-lfs\n", b"", b"\x80\x02}q\x00."]):
        (tmp_path / "in" / f"{number + 1:06d}.torch").write_bytes(junk)
    assert len(list(open_clips(tmp_path / "in", skipped))) == 1
    assert skipped.reasons == {"unreadable chunk": 4}


def test_missing_frames_and_bad_text(tmp_path: Path, frames: Frames) -> None:
    write_text(tmp_path, "aaaa", *frames)
    (tmp_path / "aaaa" / "66000.jpg").unlink()
    (tmp_path / "short.txt").write_text("url\n1 2 3\n")
    (tmp_path / "words.txt").write_text("url\n1" + " x" * 18 + "\n")
    (tmp_path / "bytes.txt").write_bytes(b"url\n\xff\xfe")
    skipped = Skipped()
    (clip,) = open_clips(tmp_path, skipped)
    assert len(skipped.reasons) == 3
    load_frames(clip, [0, 2], 32, 32)
    with pytest.raises(Unusable, match="missing frame"):
        load_frames(clip, [0, 1], 32, 32)
    with pytest.raises(Unusable, match="beyond the clip"):
        load_frames(clip, [5], 32, 32)


def test_no_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="no folder"):
        list(open_clips(tmp_path / "none", Skipped()))
    with pytest.raises(ReconError, match="no .torch chunks, .tar or .txt"):
        list(open_clips(tmp_path, Skipped()))
    with pytest.raises(ReconError, match="cannot read the evaluation index"):
        read_evaluation_index(tmp_path / "none.json", Skipped())


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A chunk that holds code is refused, not run."""
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    torch.save([Evil()], tmp_path / "000000.torch")
    skipped = Skipped()
    assert list(open_clips(tmp_path, skipped)) == []
    assert skipped.reasons == {"unreadable chunk": 1} and not marker.exists()


def test_rows_have_eighteen_numbers(frames: Frames) -> None:
    assert camera_rows(frames[1]).shape == (5, 18)


def test_captures_become_clips(sample: Path, tmp_path: Path) -> None:
    """Written as clips, converted to shards, read by the index: the photos and their cameras."""
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for entry in sample.iterdir():
            (tmp_path / "in" / name / entry.name).symlink_to(entry)
    out = tmp_path / "out"
    text = write_clips([tmp_path / "in"], out, ["b"], side=48, length=7, gap=4)
    assert text == (
        f"wrote {out}: 1 clip to train on, 1 to test; train with dataset.realestate10k.gap=[4,6]"
    )
    convert(out / "test", tmp_path / "shards", ConvertOptions())
    items = read_evaluation_index(out / "index.json", Skipped())
    assert [(item.key, item.context, item.target) for item in items] == [("b-0", (1, 5), (2, 3, 4))]
    ((_, images, cameras),) = evaluation_views(tmp_path / "shards", items, 64, 48, Skipped())
    capture = load_capture(sample)
    order = video_order(load_views(capture.frames, 64).cameras.centers)
    expected = load_views([capture.frames[order[i]] for i in (1, 5, 2, 3, 4)], 64)
    assert float((images - expected.images).abs().mean()) < 0.02
    assert torch.allclose(cameras.viewmats, expected.cameras.viewmats, atol=1e-4)
    assert torch.allclose(cameras.Ks, expected.cameras.Ks, rtol=1e-3)
    with pytest.raises(InputError, match="--held-out: no capture c; found: a, b"):
        write_clips([tmp_path / "in"], tmp_path / "new", ["c"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--gap", "12"], "--gap 12 needs 13, found at most 9; choose a smaller --gap"),
        (["a", "b/a"], "two captures are called a, after which clips are called: "),
        (["a", "a"], "give each once, or rename a folder"),
        (["a", "--gap", "24"], "--length must be at least 25, more than --gap 24; found 24"),
        (["a", "--gap", "0"], "--gap must be at least 1; found 0"),
        (["a", "--side", "2"], "--side must be at least 8; found 2"),
        (["a", "--max-photos", "3"], "--max-photos must be at least 5, more than --gap 4; found 3"),
        (["broken"], "no captures with cameras in broken"),
    ],
)
def test_mistakes_leave_no_clips(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b/a"):
        write_capture(Path(folder), 9)
    Path("broken").mkdir()
    Path("broken/transforms.json").write_text("{")
    with pytest.raises(SystemExit) as ended:
        write_clips_main([*words, "-o", "out"])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "broken"]


def write_capture(folder: Path, count: int) -> None:
    """A capture of small photos along a line."""
    folder.mkdir(parents=True)
    frames = []
    for index in range(count):
        Image.effect_noise((32, 32), 90).save(folder / f"{index}.jpg")
        pose = torch.eye(4)
        pose[0, 3] = index
        frames.append({"file_path": f"{index}.jpg", "transform_matrix": pose.tolist()})
    facts = {"fl_x": 30, "fl_y": 30, "cx": 16, "cy": 16, "w": 32, "h": 32, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(facts))


def test_clips_appear_all_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        assert any(tmp_path.glob(".recon-*/out/train/a-0"))
        raise InputError("the photo is gone")

    write_capture(tmp_path / "a", 5)
    monkeypatch.setattr("training.data.write_clips.load_views", fail)
    with pytest.raises(InputError, match="the photo is gone"):
        write_clips([tmp_path / "a"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_photos_in_no_clip_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_capture(tmp_path / "a", 9)
    write_clips_main([str(tmp_path / "a"), "-o", str(tmp_path / "out"), "--length", "6"])
    told = capsys.readouterr()
    assert "a: 3 of the 9 photos are in no clip" in told.err
    assert "1 clip to train on, 0 to test; train with dataset.realestate10k.gap=[4,5]" in told.out
    with pytest.raises(SystemExit):
        write_clips_main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "frames of a clip, at most [default: 24]" in text and "gap" in text


def test_cameras_are_put_into_the_order_of_a_path() -> None:
    along = torch.tensor([3.0, 0.0, 2.0, 5.0, 1.1])
    order = video_order(torch.stack([along, 0 * along, 0 * along], -1))
    assert order in ([3, 0, 2, 4, 1], [1, 4, 2, 0, 3])
