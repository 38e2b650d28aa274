"""`--cameras` of photos whose cameras were solved when the scene was made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import random_gaussians
from PIL import Image

from recon.capture import load_capture, sfm
from recon.capture.sfm.posed_capture import PosedCapture
from recon.capture.types import Capture
from recon.cli.main import main
from recon.formats import save_gaussians
from render import Cameras


@pytest.fixture()
def photos(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos without cameras, for which those of the sample were solved before."""
    folder = tmp_path / "photos"
    shutil.copytree(sample / "images", folder)
    cameras = {Path(f.name).name: f.camera for f in load_capture(sample).frames}

    def stored(capture: Capture, _config: sfm.SolveConfig) -> PosedCapture:
        frames = tuple(replace(f, camera=cameras[Path(f.name).name]) for f in capture.frames)
        return PosedCapture(replace(capture, frames=frames), "solved")

    monkeypatch.setattr(sfm, "solved_before", stored)
    return folder


def scene_from(sample: Path, path: Path, scale: float) -> Path:
    """Write a scene whose first camera is that of a photo of the sample, moved by a scale."""
    camera = load_capture(sample).frames[1].camera
    assert camera is not None
    viewmat = camera.viewmat.double().clone()
    viewmat[:3, 3] *= scale
    start = Cameras(viewmat[None], camera.K[None].double(), camera.width, camera.height)
    gaussians = random_gaussians(50, torch.Generator().manual_seed(3), dtype=torch.float32)
    save_gaussians(path, gaussians, start=start)
    return path


def test_solved_cameras_are_used(sample: Path, photos: Path, tmp_path: Path) -> None:
    scene = scene_from(sample, tmp_path / "s.ply", 1.0)
    common = ["--camera-index", "2", "--size", "48x32", "--quiet"]
    for name, cameras in (("solved.png", photos), ("given.png", sample)):
        main(["render", str(scene), "-o", str(tmp_path / name), "--cameras", str(cameras), *common])
    assert (tmp_path / "solved.png").read_bytes() == (tmp_path / "given.png").read_bytes()


@pytest.mark.parametrize("inverted", [False, True])
def test_solved_cameras_of_photos_with_masks(
    inverted: bool, sample: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for photo in list(photos.iterdir()):
        (photos / "masks").mkdir(exist_ok=True)
        with Image.open(photo) as image:
            Image.new("L", image.size, 255).save(photos / "masks" / f"{photo.stem}.png")
    stored = sfm.solved_before

    def with_masks(capture: Capture, config: sfm.SolveConfig) -> PosedCapture | None:
        # As the key of the cache holds the masks.
        masks = {(f.mask_path is not None, f.mask_inverted) for f in capture.frames}
        return stored(capture, config) if masks == {(True, inverted)} else None

    monkeypatch.setattr(sfm, "solved_before", with_masks)
    scene = scene_from(sample, tmp_path / "s.ply", 1.0)
    image = tmp_path / "image.png"
    main(["render", str(scene), "-o", str(image), "--cameras", str(photos), "--quiet"])
    assert image.is_file()


@pytest.mark.parametrize(
    "command",
    ["render @s.ply -o @a.png", "mesh @s.ply -o @a.glb", "clean @s.ply -o @a.ply",
     "compress @s.ply -o @a.sog --keep 0.5", "convert @s.ply -o @a.usda",
     "view @s.ply --static @page"],
)  # fmt: skip
def test_cameras_of_another_frame_are_refused(
    command: str, sample: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene_from(sample, tmp_path / "s.ply", 1.5)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as end:
        main([*command.replace("@", f"{tmp_path}/").split(), "--cameras", str(photos)])
    lines = capsys.readouterr().err.splitlines()
    error = [line for line in lines if line.startswith("recon: error: ")]
    assert end.value.code == 2 and len(error) == 1
    assert f"{photos} has no cameras" in error[0] and "--save-cameras cameras.json" in error[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_compress_takes_solved_cameras(
    sample: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = scene_from(sample, tmp_path / "s.ply", 1.0)
    words = ["compress", str(scene), "-o", str(tmp_path / "k.ply"), "--keep", "0.5"]
    main([*words, "--cameras", str(photos), "--resolution", "64", "--json"])
    assert json.loads(capsys.readouterr().out)["gaussians"] == 25
