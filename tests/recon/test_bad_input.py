"""What users get wrong: one line that names it, exit code 2, nothing half-written."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_gaussians, write_empty_ply
from PIL import Image

from recon.cli import main as cli
from recon.errors import MissingDependency
from recon.formats import save_gaussians, spz_container


def run(arguments: list[str], capsys) -> tuple[int, str]:
    """Exit code and standard error of the command line."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    code = end.value.code
    assert isinstance(code, int)
    return code, capsys.readouterr().err


def expect_error(arguments: list[str], capsys, *parts: str) -> None:
    """Exit code 2 and one line with all the parts."""
    code, text = run(arguments, capsys)
    lines = [line for line in text.splitlines() if line.startswith("recon: error: ")]
    assert code == 2 and len(lines) == 1 and text.endswith(lines[0] + "\n"), text
    assert "Traceback" not in text
    for part in parts:
        assert part in lines[0], f"{part!r} not in {lines[0]!r}"


@pytest.fixture()
def capture(tmp_path: Path, sample: Path) -> Path:
    """A copy of two views of the sample that a test may spoil."""
    folder = tmp_path / "capture"
    (folder / "images").mkdir(parents=True)
    document = json.loads((sample / "transforms.json").read_text())
    document["frames"] = document["frames"][:2]
    for frame in document["frames"]:
        shutil.copy(sample / frame["file_path"], folder / "images")
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


def spoil(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit the transforms.json of a capture."""
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_empty_folder(tmp_path: Path, capsys) -> None:
    (tmp_path / "photos").mkdir()
    expect_error(
        [f"{tmp_path}/photos", "-o", f"{tmp_path}/o.ply"], capsys, "no images in", ".jpg", ".heic"
    )
    assert not (tmp_path / "o.ply").exists()


def test_missing_folder(tmp_path: Path, capsys) -> None:
    expect_error([f"{tmp_path}/none", "-o", f"{tmp_path}/o.ply"], capsys, "input not found")


def test_one_image_cannot_be_matched(capture: Path, capsys) -> None:
    spoil(capture, lambda d: d.update(frames=d["frames"][:1]))
    arguments = [str(capture), "-o", f"{capture}/o.ply", "--model", "plane-sweep"]
    expect_error(
        arguments, capsys, "plane-sweep", "at least 2, found 1", "use the model cost-volume"
    )


def test_images_without_cameras(capture: Path, capsys) -> None:
    (capture / "transforms.json").unlink()
    arguments = [f"{capture}/images", "-o", f"{capture}/o.ply", "--cameras", "given"]
    expect_error(
        arguments, capsys, "no cameras in", "transforms.json", "COLMAP", "--camera-source auto"
    )


def test_given_cameras_are_not_saved_as_solved(capture: Path, capsys) -> None:
    arguments = [str(capture), "-o", f"{capture}/o.ply", "--save-colmap", f"{capture}/c"]
    expect_error(arguments, capsys, "--save-colmap", "comes with cameras", "--camera-source solve")
    arguments[-1] = str(capture / "images")
    expect_error(arguments, capsys, "contains 000.jpg", "choose a new folder")


def test_unreadable_image(capture: Path, capsys) -> None:
    (capture / "images" / "001.jpg").write_bytes(b"this is not an image")
    arguments = [str(capture), "-o", f"{capture}/o.ply", "--strict"]
    expect_error(arguments, capsys, "001.jpg")


def test_truncated_jpg(capture: Path, capsys) -> None:
    whole = (capture / "images" / "001.jpg").read_bytes()
    (capture / "images" / "001.jpg").write_bytes(whole[: len(whole) // 2])
    arguments = [str(capture), "-o", f"{capture}/o.ply", "--strict"]
    expect_error(arguments, capsys, "001.jpg", "cut short", "--strict")
    assert not list(capture.glob("*.ply")) and not list(capture.glob(".recon-*"))


def set_frame(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["frames"][1].update({key: value})


def nan_matrix(document: dict[str, Any]) -> None:
    document["frames"][1]["transform_matrix"][0][3] = math.nan


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (set_frame("file_path", 3), ("frame 1", "no file_path")),
        (nan_matrix, ("frame 1", "NaN")),
        (set_frame("transform_matrix", [[1, 0], [0, 1]]), ("frame 1", "4x4", "found 2x2")),
        (set_frame("fl_x", 0), ("frame 1", "focal length must be above 0 px")),
        (lambda d: d.pop("frames"), ("transforms.json", "no frames")),
        (lambda d: d.pop("fl_x"), ("frame 0", "no focal length")),
    ],
)
def test_bad_transforms(change, parts: tuple[str, ...], capture: Path, capsys) -> None:
    spoil(capture, change)
    expect_error([str(capture), "-o", f"{capture}/o.ply", "--strict"], capsys, *parts)
    assert not (capture / "o.ply").exists()


def test_colmap_without_images(tmp_path: Path, capsys) -> None:
    pytest.importorskip("pycolmap")
    model = tmp_path / "sparse"
    model.mkdir()
    (model / "cameras.txt").write_text("1 PINHOLE 64 48 60 60 32 24\n")
    (model / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.jpg\n\n2 1 0 0 0 1 0 0 1 b.jpg\n\n")
    (model / "points3D.txt").write_text("")
    expect_error([str(tmp_path), "-o", f"{tmp_path}/o.ply"], capsys, "images", "a.jpg")


def test_output_folder_missing(sample: Path, tmp_path: Path, capsys) -> None:
    expect_error([str(sample), "-o", f"{tmp_path}/no/o.ply"], capsys, "no does not exist")


def test_folders_of_the_user_are_not_replaced(capture: Path, capsys) -> None:
    arguments = [str(capture), "-o", f"{capture}/o.ply", "--save-cameras", f"{capture}/images"]
    expect_error(arguments, capsys, "images: it is a folder", "expected the name of a file")
    save_gaussians(capture / "s.ply", random_gaussians(3, torch.Generator()))
    arguments = ["render", f"{capture}/s.ply", "-o", str(capture), "--cameras", str(capture)]
    expect_error(arguments, capsys, "contains photos of", "which would be lost")
    arguments[3] = f"{capture}/new"
    for _ in range(2):  # an earlier output of the same command is replaced
        cli.main([*arguments, "--size", "16x12", "--quiet", "--force"])
    assert sorted(p.name for p in (capture / "new").iterdir()) == ["000.png", "001.png"]
    assert len(list((capture / "images").iterdir())) == 2


def test_unknown_extension(sample: Path, tmp_path: Path, capsys) -> None:
    expect_error([str(sample), "-o", f"{tmp_path}/o.obj"], capsys, ".obj", ".ply")


def test_no_write_permission(sample: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    # Tests may run as root, whom permissions do not stop.
    monkeypatch.setattr("recon.files.os.access", lambda *args: False)
    expect_error([str(sample), "-o", f"{tmp_path}/o.ply"], capsys, "no permission to write in")


def test_failure_while_writing_keeps_the_old_file(capture: Path, capsys, monkeypatch) -> None:
    out = capture / "o.ply"
    out.write_text("old")

    def fail(*args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recon.formats.ply._others", fail)
    code, text = run(
        [str(capture), "-o", str(out), "--resolution", "64", "--quiet", "--force"], capsys
    )
    assert code == 130 and text == "recon: interrupted\n"
    assert out.read_text() == "old" and not list(capture.glob(".recon-*"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--max-views", "0"], "--max-views must be at least 1, got 0"),
        (["--resolution", "3"], "--resolution must be at least 32 px, got 3"),
        (["--model", "magic"], "unknown model 'magic'; expected one of: cost-volume, plane-sweep"),
        (["--cameras", "guess"], "--cameras"),
        (["--foo"], "unknown option --foo (see recon --help)"),
        (["--max-views", "x"], "--max-views: expected a whole number, found 'x'"),
    ],
)
def test_bad_options(arguments: list[str], part: str, sample: Path, tmp_path: Path, capsys) -> None:
    expect_error([str(sample), "-o", f"{tmp_path}/o.ply", *arguments], capsys, part)


def test_cameras_at_one_position(capture: Path, capsys) -> None:
    spoil(capture, lambda d: set_frame("transform_matrix", d["frames"][0]["transform_matrix"])(d))
    arguments = [str(capture), "-o", f"{capture}/o.ply", "--resolution", "64"]
    expect_error(arguments, capsys, "are at the same position")


def test_missing_output(sample: Path, capsys) -> None:
    expect_error([str(sample)], capsys, "missing -o, --output OUT", "(see recon --help)")


def test_too_few_photos_for_transients(capture: Path, capsys) -> None:
    arguments = [str(capture), "-o", str(capture / "scene.ply"), "--transients"]
    expect_error(arguments, capsys, "--transients need at least 4 photos, found 2", "add photos")
    assert not (capture / "scene.ply").exists()


def test_masks_that_leave_nothing(capture: Path, capsys) -> None:
    Image.new("L", (512, 384)).save(capture / "mask.png")
    spoil(capture, lambda d: [f.update(mask_path="mask.png") for f in d["frames"]])
    arguments = [str(capture), "-o", f"{capture}/o.ply", "--resolution", "64"]
    expect_error(arguments, capsys, "the masks leave nothing")


def test_bad_scene_and_render_options(sample: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.ply").write_text("ply\n")
    scene = str(tmp_path / "a.ply")
    expect_error(["info", scene], capsys, "a.ply")
    expect_error(["render", scene, "-o", f"{tmp_path}/a.gif"], capsys, ".gif", ".mp4")
    expect_error(["render", f"{tmp_path}/b.ply", "-o", f"{tmp_path}/a.png"], capsys, "not found")
    write_empty_ply(tmp_path / "none.ply")
    for command in (["render"], ["info"], ["convert"], ["compress"]):
        output = [] if command == ["info"] else ["-o", f"{tmp_path}/a.png"]
        output = ["-o", f"{tmp_path}/a.spz"] if command[0].startswith("co") else output
        expect_error([*command, f"{tmp_path}/none.ply", *output], capsys, "is empty")
    expect_error(["eval"], capsys, "capture or --suite")
    expect_error(["eval", str(sample), "--split", "9v"], capsys, "no split '9v'", "2v, 4v")
    expect_error(["transmogrify", "a.ply"], capsys, "no folder and no command 'transmogrify'")


def test_missing_cpu_library(sample: Path, tmp_path: Path) -> None:
    """A broken installation is one line, too: the kernel's library is not where it should be."""
    done = subprocess.run(
        [sys.executable, "-m", "recon", str(sample), "-o", f"{tmp_path}/o.ply", "--quiet",
         "--resolution", "64", "--max-views", "2", "--refine", "1"],
        env={**os.environ, "RECON_CPU_DIR": "/nonexistent"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("recon: error: ") and "/nonexistent" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependency, match=r"a\.spz .* pip install 'reconsplat\[spz\]'"):
        spz_container._unzstd(Path("a.spz"), b"", 1)


@pytest.fixture()
def small_scene(tmp_path: Path) -> Path:
    """A scene file that must stay as it is."""
    path = tmp_path / "scene.ply"
    save_gaussians(path, random_gaussians(20, torch.Generator().manual_seed(0)).to(torch.float32))
    return path


def test_json_never_replaces_a_scene(small_scene: Path, tmp_path: Path, capsys) -> None:
    """`--json` takes only .json files: in `--json scene.ply` the scene is the input."""
    before = small_scene.read_bytes()
    cli.main(["info", "--json", str(small_scene)])
    assert json.loads(capsys.readouterr().out)["gaussians"] == 20
    expect_error(["info", "--json", str(small_scene), str(small_scene)], capsys, "unexpected")
    expect_error(["info", str(small_scene), f"--json={small_scene}"], capsys, ".json file")
    convert = ["convert", "--json", str(small_scene), "-o", f"{tmp_path}/a.splat"]
    cli.main(convert)
    assert json.loads(capsys.readouterr().out)["output"] == f"{tmp_path}/a.splat"
    assert small_scene.read_bytes() == before


def test_saved_cameras_never_replace_an_input_or_a_scene(capture: Path, capsys) -> None:
    before = (capture / "transforms.json").read_bytes()
    command = [str(capture), "-o", f"{capture}/o.ply", "--save-cameras"]
    expect_error(
        [*command, f"{capture}/transforms.json"], capsys, "would replace a file of the input"
    )
    expect_error([*command, f"{capture}/o.ply"], capsys, "--save-cameras writes a .json file")
    both = [*command, f"{capture}/c.json", "--json", f"{capture}/c.json"]
    expect_error(both, capsys, "choose two files")
    assert (capture / "transforms.json").read_bytes() == before
    assert not (capture / "o.ply").exists()


def test_renders_never_replace_photos(small_scene: Path, capture: Path, capsys) -> None:
    document = json.loads((capture / "transforms.json").read_text())
    for frame in document["frames"]:
        photo = capture / frame["file_path"]
        Image.open(photo).save(photo.with_suffix(".png"))
        photo.unlink()
        frame["file_path"] = str(Path(frame["file_path"]).with_suffix(".png"))
    (capture / "transforms.json").write_text(json.dumps(document))
    photos = {path: path.read_bytes() for path in (capture / "images").iterdir()}
    command = ["render", str(small_scene), "-o", f"{capture}/images", "--cameras", str(capture)]
    expect_error([*command, "--size", "16x12"], capsys, "photos of", "choose a new folder")
    assert {path: path.read_bytes() for path in (capture / "images").iterdir()} == photos


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc on this system")
def test_outputs_that_the_system_refuses(small_scene: Path, tmp_path: Path, capsys) -> None:
    expect_error(["convert", str(small_scene), "-o", "/proc/x.ply"], capsys, "cannot write")
    long = f"{tmp_path}/{'a' * 300}.ply"
    expect_error(["convert", str(small_scene), "-o", long], capsys, "name too long")
    missing = ["compress", f"{tmp_path}/none.ply", "-o", str(small_scene), "--keep", "0.5"]
    expect_error(missing, capsys, "scene not found")


def test_numbers_are_decimal_digits(small_scene: Path, tmp_path: Path, capsys) -> None:
    command = ["render", str(small_scene), "-o", f"{tmp_path}/a.png", "--size", "²x²"]
    expect_error(command, capsys, "--size")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--refine", "1" * 5000], "expected steps such as 45 or a time such as 20s, found '111"),
        (["--refine", "9" * 400 + "s"], "--refine: expected steps"),
        (["--time", "9" * 400 + "s"], "--time: expected a time"),
        (["--time", "0.0m"], "--time: expected a time above 0 such as 40s, found '0.0m'"),
        (["--max-views", "9" * 5000], "--max-views: expected a whole number, found '999"),
        (["--seed", "1" + "0" * 200], "--seed: expected a whole number"),
        (["--metric-scale", "nan"], "--metric-scale: expected a number"),
        (["--metric-scale", "1e308"], "--metric-scale: expected a number"),
        (["--metric-scale", "1e12"], "--metric-scale must be from 1e-09 to 1e+09"),
    ],
)
def test_absurd_numbers(words: list[str], part: str, tmp_path: Path, capsys) -> None:
    # The photos do not matter: options are read before.
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "a.png")
    code, text = run([f"{tmp_path}/photos", "-o", f"{tmp_path}/o.ply", *words], capsys)
    assert code == 2 and part in text and text.count("\n") == 1 and len(text) < 300


def test_view_refuses_an_address_of_another_machine(small_scene: Path, capsys) -> None:
    for host in ("no.such.host.invalid", "192.0.2.1", "a" * 80):
        expect_error(["view", str(small_scene), "--host", host], capsys, f"cannot listen on {host}")


def test_damaged_headers_of_checkpoints(tmp_path: Path) -> None:
    from safetensors.torch import save

    from recon.errors import InputError
    from recon.model.registry import load_checkpoint

    for text in ("", "{", "[]", "null", "[" * 5000, '{"network": 3}', '{"network": "x"}'):
        (tmp_path / "a.safetensors").write_bytes(save({"x": torch.zeros(1)}, {"recon": text}))
        with pytest.raises(InputError, match="damaged header"):
            load_checkpoint(tmp_path / "a.safetensors")


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch) -> None:
    from recon.capture.cache import cache_folder
    from recon.errors import ReconWarning

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RECON_CACHE", f"{tmp_path}/file/cache")
    with pytest.warns(ReconWarning, match="cannot write the cache .*; set RECON_CACHE"):
        folder = cache_folder()
    assert folder.is_dir() and cache_folder() == folder


def test_captures_are_compared(sample: Path) -> None:
    from recon.capture import load_capture

    first, second = load_capture(sample), load_capture(sample)
    assert first == second and len({first, second}) == 1
    assert first.frames[0] != second.frames[1]
