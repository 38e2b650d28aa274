"""Outputs: checked before the work begins, never in place of an input, complete or absent."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers import random_gaussians
from PIL import Image

from recon.cli import main as cli
from recon.cli.outputs import expected_bytes, expected_point_bytes
from recon.errors import InputError, did_you_mean
from recon.export.point_cloud import PointCloud, write_point_cloud
from recon.files import atomic_output, check_output, check_space
from recon.formats import FORMATS, SceneSource, load_gaussians, save_gaussians
from recon.precision import WORLD
from recon.scene_extensions import POINT_CLOUD_EXTENSIONS


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A scene `s.ply`, and a capture `cap` of one photo with a camera and a mask."""
    save_gaussians(tmp_path / "s.ply", random_gaussians(20, torch.Generator()).to(torch.float32))
    (tmp_path / "cap" / "images").mkdir(parents=True)
    for name in ("images/a.png", "a.mask.png"):
        Image.new("RGB", (64, 48), (90, 120, 60)).save(tmp_path / "cap" / name)
    pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]
    frame = {"file_path": "images/a.png", "mask_path": "a.mask.png", "transform_matrix": pose}
    document = {"fl_x": 60, "w": 64, "h": 48, "frames": [frame]}
    (tmp_path / "cap" / "transforms.json").write_text(json.dumps(document))
    shutil.copy(tmp_path / "s.ply", tmp_path / "cap" / "old.ply")
    return tmp_path


def failure(words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a command prints that must end with code 2."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        cli.main(words.replace("@", f"{folder}/").split())
    text = capsys.readouterr().err
    assert end.value.code == 2 and text.startswith("recon: error: ") and text.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(folder.rglob(".recon-*"))
    return text


@pytest.mark.parametrize(
    "words",
    [
        "@cap -o @cap/old.ply",
        "@cap/transforms.json -o @cap/old.ply",
        "@cap -o @o.ply --json @cap/transforms.json",
        "@cap -o @o.ply --save-cameras @cap/transforms.json",
        "convert @s.ply -o @s.ply",
        "compress @s.ply -o @s.ply --keep 0.5",
        "compress @s.ply -o @cap/old.ply --keep 0.5 --cameras @cap",
        "render @s.ply -o @cap/images/a.png --cameras @cap",
        "render @s.ply -o @cap/a.mask.png --cameras @cap/transforms.json",
        "render @s.ply -o @cap/images --cameras @cap/transforms.json",
        "info @cap --json @cap/transforms.json",
        "info @cap/transforms.json --json=@cap/transforms.json",
        "eval @cap --markdown @cap/transforms.json",
    ],
)
def test_inputs_are_not_replaced(words: str, folder: Path, capsys) -> None:
    failure(words, folder, capsys)


def test_links_to_inputs_are_not_replaced(folder: Path, capsys) -> None:
    (folder / "soft.ply").symlink_to(folder / "s.ply")
    os.link(folder / "s.ply", folder / "hard.ply")
    for name in ("soft", "hard"):
        assert "is the input" in failure(f"convert @s.ply -o @{name}.ply", folder, capsys)


def test_force_replaces_an_input(folder: Path, capsys) -> None:
    cli.main(["convert", f"{folder}/s.ply", "-o", f"{folder}/s.ply", "--force", "--quiet"])
    assert len(load_gaussians(folder / "s.ply")) == 20
    options = ["--cameras", f"{folder}/cap", "--quiet", "--force", "--size", "32x24"]
    cli.main(["render", f"{folder}/s.ply", "-o", f"{folder}/cap/images/a.png", *options])
    assert Image.open(folder / "cap/images/a.png").size == (32, 24)


def test_saved_cameras_elsewhere_protect_nothing(folder: Path) -> None:
    """The folder of a camera file whose photos are elsewhere is no capture's."""
    document = json.loads((folder / "cap/transforms.json").read_text())
    document["frames"][0]["file_path"] = f"{folder}/cap/images/a.png"
    (folder / "mine").mkdir()
    (folder / "mine/cameras.json").write_text(json.dumps(document))
    for _ in range(2):
        words = f"render {folder}/s.ply -o {folder}/mine/a.png --quiet"
        cli.main([*words.split(), "--cameras", f"{folder}/mine/cameras.json"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("convert @s.ply -o @pipe.ply", "pipe or a device"),
        ("convert @s.ply -o @loop.ply", "cannot write"),
        ("convert @s.ply -o @s.ply/x.ply", "s.ply is not a folder; choose another"),
        ("convert @s.ply -o @null\0.ply", "null\\x00.ply': embedded null byte"),
        ("convert @s.ply -o @no/x.ply", "does not exist"),
        ("convert @pipe.ply -o @x.ply", "not found"),
        ("@pipe.ply -o @x.ply", "not found"),
        ("mesh @pipe.ply -o @x.glb", "not found"),
        ("render @s.ply -o @pipe.png", "pipe or a device"),
        ("@cap -o @x.ply --json @x.json --save-cameras @x.json", "choose two files"),
        ("eval @cap --save-renders @new --markdown @new", "choose two files"),
    ],
)
def test_things_that_are_no_files(words: str, part: str, folder: Path, capsys) -> None:
    for name in ("pipe.ply", "pipe.png"):
        os.mkfifo(folder / name)
    (folder / "loop.ply").symlink_to(folder / "loop.ply")
    assert part in failure(words, folder, capsys)


def test_links_are_written_through(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link.ply").symlink_to("real/new.ply")
    cli.main(["convert", f"{folder}/s.ply", "-o", f"{folder}/link.ply", "--quiet"])
    assert (folder / "link.ply").is_symlink() and len(load_gaussians(folder / "real/new.ply")) == 20


def test_long_names_are_refused_before_the_work(folder: Path) -> None:
    with pytest.raises(InputError, match="name too long"):
        check_output(folder / f"{'a' * 260}.ply")


def test_space_is_estimated(folder: Path, capsys) -> None:
    free = float(shutil.disk_usage(folder).free)
    check_space(folder / "x.ply", 0.5 * free)
    with pytest.raises(InputError, match=r"takes about .* MB, but only .* MB are free"):
        check_space(folder / "x.ply", 3 * free)
    failure(f"compress @s.ply -o @x.sog --target-size {int(free)}", folder, capsys)


@pytest.mark.parametrize("extension", FORMATS)
def test_expected_sizes_are_those_of_files(extension: str, folder: Path) -> None:
    if extension.startswith(".usd"):
        pytest.importorskip("pxr")
    path, generator = folder / f"x{extension}", torch.Generator().manual_seed(0)
    for degree in (0, 2):
        scene = random_gaussians(2000, generator, degree=degree, dtype=torch.float32)
        save_gaussians(path, scene)
        degree = min(degree, FORMATS[extension].max_sh_degree)
        # Of a .usdz, the layer in it is on the disk as well.
        on_disk = path.stat().st_size * (2 if extension == ".usdz" else 1)
        compresses = extension in (".sog", ".spz")
        tolerance = 1.0 if compresses else 0.05
        assert expected_bytes(path, 2000, degree) == pytest.approx(on_disk, rel=tolerance)


@pytest.mark.parametrize("extension", POINT_CLOUD_EXTENSIONS)
@pytest.mark.parametrize("origin", [WORLD, (500_000.0, 5_400_000.0, 100.0)])
def test_expected_sizes_of_points_are_those_of_files(
    extension: str, origin: tuple[float, float, float], folder: Path
) -> None:
    if extension in (".las", ".laz"):
        pytest.importorskip("laspy")
    path, generator = folder / f"x{extension}", torch.Generator().manual_seed(0)
    scene = random_gaussians(5000, generator, degree=0, dtype=torch.float32)
    cloud = PointCloud.of(path, SceneSource.of(scene, origin), 0.0)
    write_point_cloud(path, cloud)
    expected = expected_point_bytes(path, 5000, origin != WORLD)
    assert expected == pytest.approx(path.stat().st_size, rel=0.1)


def test_an_old_folder_stays_after_a_failure(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_text("old")
    real = Path.rename

    def fail(self: Path, to: Path) -> Path:
        if to == target and self.parent.name.startswith(".recon-") and self.name == "out":
            raise KeyboardInterrupt
        return real(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt), atomic_output(target) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["out"] and (target / "a").read_text() == "old"


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("--resolutoin", "--resolution"),
        ("--res", "--resolution"),
        ("--gaussians", "--max-gaussians"),
        ("--max_views", "--max-views"),
        ("--foo", None),
        ("--input", None),
        ("--max", None),  # several
        ("--gpu", None),
    ],
)
def test_only_close_words_are_suggested(word: str, found: str | None) -> None:
    known = ["--resolution", "--max-gaussians", "--max-views", "--force", "--output", "--prune"]
    assert did_you_mean(word, known) == (f"; did you mean {found}?" if found else "")


def test_empty_arguments_are_refused(folder: Path, capsys) -> None:
    for words in (["", "-o", "x.ply"], ["a.b", "-o", ""], ["info", ""], ["a.b", "--time="]):
        with pytest.raises(SystemExit):
            cli.main(words)
        assert "found an empty text" in capsys.readouterr().err
