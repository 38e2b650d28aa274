"""The command line as a user meets it."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import psnr
from PIL import Image

import recon
from recon.capture import load_capture, load_views
from recon.cli import main as cli
from recon.cli.arguments import options_of
from recon.cli.info import _quantiles
from recon.cli.options import ReconstructOptions
from recon.formats import load_gaussians
from render import rasterize

HELP = """
import sys
from recon.cli.main import main
main(["--help"])
print("heavy modules:", *sorted({"torch", "numpy", "PIL", "cv2", "viser"} & set(sys.modules)))
"""

VERSION = """
import os, sys
from recon.__main__ import main
sys.argv = ["recon", "--version"]
try:
    main()
finally:
    print("", os.environ["OMP_WAIT_POLICY"], *{"torch"} & set(sys.modules))
"""


@pytest.mark.parametrize("policy", [None, "active"])
def test_threads_of_openmp_sleep_unless_told_otherwise(policy: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
    command = [sys.executable, "-c", VERSION]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == [policy or "passive"]


def test_help_is_complete_and_imports_little() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy modules:"
    for word in ["--output", "--max-views", "--resolution", *cli.COMMANDS]:
        assert word in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_has_help(command: str) -> None:
    module, name, _ = cli.COMMANDS[command]
    for option in options_of(getattr(importlib.import_module(module), name)):
        assert len(option.text) > 10 and option.text.endswith("."), option.path


def test_version(capsys) -> None:
    cli.main(["--version"])
    assert capsys.readouterr().out == f"recon {recon.__version__}\n"


def test_quantiles_of_very_many_values() -> None:
    """More than float32 can count: 10 million Gaussians have 30 million scales."""
    values = torch.zeros(2**24 + 10)
    values[-1], values[0] = 1.0, -1.0
    found = _quantiles(values)
    assert (found["min"], found["median"], found["max"]) == (-1.0, 0.0, 1.0)


def test_main_job_end_to_end(sample: Path, tmp_path: Path, capsys) -> None:
    """Photos to PLY to image, as in the README, but small."""
    scene, cameras = tmp_path / "s.ply", tmp_path / "c.json"
    options = ["--resolution", "128", "--max-views", "3"]
    cli.main([str(sample), "-o", str(scene), "--save-cameras", str(cameras), *options])
    line = capsys.readouterr().out
    assert "Gaussians from 3 of 8 photos" in line and "MB" in line
    cli.main(["info", str(scene), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert 0.45 < facts["gaussians"] / (3 * 128 * 96) <= 0.55 and facts["sh_degree"] == 1
    assert (
        sum(facts["bytes_by_attribute"].values()) == 104 and len(facts["opacity_histogram"]) == 10
    )
    cli.main(["info", str(cameras)])
    assert "photos" in capsys.readouterr().out
    image = tmp_path / "p.png"
    cli.main(
        ["render", str(scene), "-o", str(image), "--cameras", str(cameras), "--size", "128x96"]
    )
    used = json.loads(cameras.read_text())["frames"][0]["file_path"]
    photo = Image.open(used).resize((128, 96), Image.Resampling.BOX)
    error = (np.asarray(Image.open(image)) / 255.0 - np.asarray(photo) / 255.0) ** 2
    assert -10 * np.log10(error.mean()) > 20


def test_json_alone_on_stdout(sample: Path, tmp_path: Path, capsys) -> None:
    fast = ["--resolution", "32", "--refine", "2"]
    cli.main([str(sample), "-o", f"{tmp_path}/s.ply", *fast, "--json"])
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert facts["views_found"] == 8 and len(facts["views_used"]) == 8 and shown.err == ""
    cli.main([str(sample), "-o", f"{tmp_path}/s.ply", *fast, "--quiet"])
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err == ""


def test_video_frames_of_photos_are_told(sample: Path, tmp_path: Path, capsys) -> None:
    """A warning: a list of captures has its options in common."""
    words = ["--max-views", "2", "--resolution", "32", "--refine", "0", "--video-frames", "9"]
    cli.main([str(sample), "-o", str(tmp_path / "s.ply"), *words])
    assert "warning: --video-frames has no effect on" in capsys.readouterr().err


def test_render_folder_depth_and_video(sample: Path, tmp_path: Path, capsys) -> None:
    import cv2

    scene = tmp_path / "s.ply"
    cli.main([str(sample), "-o", str(scene), "--resolution", "64", "--max-views", "2", "--quiet"])
    common = ["--cameras", str(sample), "--size", "65x49", "--quiet"]
    cli.main(["render", str(scene), "-o", f"{tmp_path}/all", *common])
    names = sorted(p.name for p in (tmp_path / "all").iterdir())
    assert names == [f"{i:03d}.png" for i in range(8)]
    one = ["--depth", "--camera-index", "003", *common]
    cli.main(["render", str(scene), "-o", f"{tmp_path}/d.png", *one])
    assert Image.open(tmp_path / "d.png").size == (65, 49)
    cli.main(["render", str(scene), "-o", f"{tmp_path}/v.mp4", "--num-frames", "5", *common])
    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 5
    cli.main(["render", str(scene), "-o", f"{tmp_path}/plain.png", "--size", "64x48", "--quiet"])
    assert np.asarray(Image.open(tmp_path / "plain.png")).max() > 50


def test_eval_prints_and_writes_all_methods(sample: Path, tmp_path: Path, capsys) -> None:
    out, renders = tmp_path / "e.json", tmp_path / "renders"
    options = ["--resolution", "128", "--json", str(out), "--save-renders", str(renders)]
    cli.main(["eval", str(sample), "--split", "2v", *options])
    table = capsys.readouterr().out
    for word in (
        "cost-volume",
        "nearest photo",
        "constant depth",
        "PSNR",
        "SSIM",
        "images/003.jpg",
    ):
        assert word in table
    (case,) = json.loads(out.read_text())["cases"]
    means = {method: scores["psnr"] for method, scores in case["mean"].items()}
    assert means["cost-volume"] > max(means["nearest photo"], means["constant depth"])
    assert [p.name for p in renders.iterdir()] == ["sample_2v_003.png"]


def test_one_photo_is_a_guess_and_says_so(sample: Path, tmp_path: Path, capsys) -> None:
    """Whole, in front of the camera, and it looks like the photo from there."""
    scene, options = tmp_path / "one.ply", ["--resolution", "96", "--max-views", "1"]
    cli.main([str(sample), "-o", str(scene), *options, "--save-cameras", f"{tmp_path}/used.json"])
    assert "1 of 8 photos (see --max-views)" in (line := capsys.readouterr().out)
    assert line.endswith("; one photo: its depth is a guess\n")
    frames = json.loads((tmp_path / "used.json").read_text())["frames"]
    assert len(frames) == 1
    capture = load_capture(sample)
    name = Path(frames[0]["file_path"]).name
    (frame,) = (f for f in capture.frames if Path(f.name).name == name)
    views = load_views([frame], 96)
    gaussians = load_gaussians(scene)
    depth = views.cameras.project(gaussians.means)[1]
    assert 0.45 < len(gaussians) / (96 * 72) < 0.55 and float(depth.min()) > 0
    shown = rasterize(gaussians, views.cameras).rgb[0]
    assert psnr(shown, views.images[0]) > 25


@pytest.mark.parametrize("given", [True, False])
def test_json_says_where_the_cameras_come_from(
    sample: Path, tmp_path: Path, capsys, given: bool
) -> None:
    """One photo without a camera has none that was given, though nothing was solved either."""
    photo = sample / "images" / "003.jpg"
    source = sample
    if not given:
        source = tmp_path / "one"
        source.mkdir()
        shutil.copy(photo, source)
    options = ["--resolution", "64", "--max-views", "2", "--refine", "0", "--json"]
    cli.main([str(source), "-o", str(tmp_path / "s.ply"), *options])
    facts = json.loads(capsys.readouterr().out)
    assert facts["cameras"] == ("given" if given else "none")
    assert facts["depth_is_guessed"] is not given


def test_video_without_pyav_is_refused_before_rendering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        cli.main(["render", str(tmp_path / "missing.ply"), "-o", str(tmp_path / "a.mp4")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "reconsplat[video]" in error and error.count("\n") == 1
