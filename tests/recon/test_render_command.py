"""`recon render`: kinds of images, and runs that go on after an interruption."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import torch
from helpers import random_gaussians
from PIL import Image

from recon.cli import main as cli
from recon.export import images as rendering
from recon.formats import save_gaussians


@pytest.fixture()
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "s.ply"
    generator = torch.Generator().manual_seed(2)
    save_gaussians(path, random_gaussians(300, generator, dtype=torch.float32))
    return path


def run(words: str, folder: Path) -> None:
    cli.main([*words.replace("@", f"{folder}/").split(), "--quiet"])


def fails(words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the message of a command that must end with code 2 and write nothing."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as end:
        run(words, folder)
    text = capsys.readouterr().err
    assert end.value.code == 2 and text.startswith("recon: error: ") and text.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return text


def test_depth_as_numbers(scene: Path, tmp_path: Path) -> None:
    run("render @s.ply -o @d.png --size 64x48 --depth --depth-unit 0.001", tmp_path)
    run("render @s.ply -o @d.exr --size 64x48 --depth", tmp_path)
    steps = cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)
    with OpenEXR.File(str(tmp_path / "d.exr"), separate_channels=True) as file:
        depth = file.channels()["Z"].pixels
    assert steps.dtype == np.uint16 and steps.shape == (48, 64) and (steps > 0).sum() > 200
    assert np.abs(depth[steps > 0] - steps[steps > 0] * 0.001).max() < 0.00051


def test_distant_depth_is_reported(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("render @s.ply -o @d.png --size 64x48 --depth --depth-unit 0.00001", tmp_path)
    assert "farther than 65,535 steps of 1e-05" in capsys.readouterr().err


def test_transparent_background(scene: Path, tmp_path: Path) -> None:
    run("render @s.ply -o @a.png --size 64x48 --background transparent", tmp_path)
    run("render @s.ply -o @w.png --size 64x48 --background white", tmp_path)
    shown = np.asarray(Image.open(tmp_path / "a.png")) / 255.0
    alpha = shown[..., 3:]
    assert alpha.min() < 0.1 and alpha.max() > 0.9
    white = np.asarray(Image.open(tmp_path / "w.png")) / 255.0
    assert np.abs(alpha * shown[..., :3] + 1 - alpha - white).max() < 3 / 255


def test_supersampling_averages(scene: Path, tmp_path: Path) -> None:
    run("render @s.ply -o @a.png --size 64x48 --scale 2", tmp_path)
    run("render @s.ply -o @b.png --size 128x96", tmp_path)
    averaged, large = (
        np.asarray(Image.open(tmp_path / n)).astype(float) for n in ("a.png", "b.png")
    )
    expected = large.reshape(48, 2, 64, 2, 3).mean((1, 3))
    assert averaged.shape == (48, 64, 3) and np.abs(averaged - expected).max() <= 1.01


def test_panorama(scene: Path, tmp_path: Path) -> None:
    run("render @s.ply -o @a.png --panorama --size 256x128", tmp_path)
    image = np.asarray(Image.open(tmp_path / "a.png"))
    assert image.shape == (128, 256, 3)
    # The scene is ahead, in the middle, and there is nothing behind.
    assert image[32:96, 96:160].mean() > 10 and image[:, :32].max() == 0
    run("render @s.ply -o @b.exr --panorama --size 256x128", tmp_path)
    with OpenEXR.File(str(tmp_path / "b.exr"), separate_channels=True) as file:
        assert math.isinf(file.channels()["Z"].pixels[64, 0])


def test_video_of_the_cameras_of_a_gltf(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The frames are the cameras, and a second run may replace the output."""
    lens = {"type": "perspective", "perspective": {"yfov": 0.8, "aspectRatio": 1.5}}
    # Behind the origin of a scene with -y up, whose x and y the file negates.
    nodes = [
        {"name": f"C{i}", "camera": 0, "translation": [0.2 * i, 0, -4], "rotation": [0, 1, 0, 0]}
        for i in range(3)
    ]
    document = {"asset": {"version": "2.0"}, "nodes": nodes, "cameras": [lens]}
    (tmp_path / "c.gltf").write_text(json.dumps(document))
    words = "render @s.ply -o @v.mp4 --cameras @c.gltf --size 64x48"
    run(words, tmp_path)
    run(words, tmp_path)
    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    frames = [image for read, image in (video.read() for _ in range(4)) if read]
    assert len(frames) == 3 and frames[0][12:36, 16:48].mean() > 20
    assert "--num-frames has no effect" in fails(f"{words} --num-frames 9", tmp_path, capsys)
    run("render @s.ply -o @all --cameras @c.gltf --size 64x48", tmp_path)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "C0.png",
        "C1.png",
        "C2.png",
    ]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("-o @a.png --panorama --size 640x480", ["--size", "twice as wide", "960x480"]),
        ("-o @a.png --scale 0", ["--scale", "from 1 to 8", "0"]),
        ("-o @a.png --depth-unit 0.001", ["--depth-unit", "--depth"]),
        ("-o @a.jpg --depth --depth-unit 0.001", ["--depth-unit", ".png"]),
        ("-o @a.png --depth --depth-unit -1", ["--depth-unit", "positive", "-1"]),
        ("-o @a.mp4 --background transparent", ["--background transparent", ".png"]),
        ("-o @all --image-format jpg --background transparent", ["--background", ".exr"]),
    ],
)
def test_options_that_do_not_fit(
    words: str, parts: list[str], scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = fails(f"render @s.ply {words}", tmp_path, capsys)
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("output", ["@all", "@v.mp4"])
def test_interrupted_run_goes_on(
    output: str, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = f"render @s.ply -o {output} --path orbit --num-frames 6 --size 64x48 --resume"
    rendered = rendering.render_camera
    calls: list[int] = []

    def counted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return rendered(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rendering, "render_camera", counted)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        run(words, tmp_path)
    kept = tmp_path / (output[1:] + ".unfinished")
    assert sorted(path.name for path in kept.glob("*.png")) == ["0000.png", "0001.png", "0002.png"]
    assert not (tmp_path / output[1:]).exists()
    assert "3 of 6 images stay in" in capsys.readouterr().err
    other = fails(words.replace("64x48", "32x24"), tmp_path, capsys)
    assert ".unfinished was begun with size [64, 48], now it is [32, 24]; run that" in other
    run(words, tmp_path)
    assert "3 of 6 images are in" in capsys.readouterr().err
    assert len(calls) == 7 and not kept.exists()
    if output == "@all":
        run(words.replace("@all", "@whole").replace("--resume", ""), tmp_path)
        names = sorted(path.name for path in (tmp_path / "whole").iterdir())
        assert names == sorted(path.name for path in (tmp_path / "all").iterdir())
        for name in names:
            assert (tmp_path / "all" / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()
    else:
        video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
        assert sum(video.read()[0] for _ in range(7)) == 6
