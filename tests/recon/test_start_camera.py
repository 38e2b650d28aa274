"""Scene files keep the camera to look at them from first, upright and at any coordinates."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_gaussians
from PIL import Image

from recon.cli import main as cli
from recon.formats import SceneSource, open_scene, write_scene
from recon.precision import Origin
from recon.scene import Scene, load
from recon.start_camera import from_comments, from_json, rotated_upright, to_comment, to_json
from render import Cameras
from render.quaternions import quats_to_rotmats

UTM = (500_000.0, 4_000_000.0, 200.0)


def camera_at(*center: float) -> Cameras:
    quats = torch.nn.functional.normalize(torch.tensor([0.8, 0.3, -0.4, 0.2]).double(), dim=0)
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3], c2w[:3, 3] = quats_to_rotmats(quats), torch.tensor(center)
    K = torch.tensor([[90.0, 0, 60], [0, 90, 40], [0, 0, 1]]).double()
    return Cameras.from_c2w(c2w[None], K[None], 120, 80)


@pytest.mark.parametrize("extension", [".ply", ".compressed.ply", ".sog", ".glb"])
@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), UTM])
@pytest.mark.filterwarnings("ignore")
def test_formats_keep_it(
    extension: str, origin: tuple[float, float, float], tmp_path: Path
) -> None:
    scene = random_gaussians(300, torch.Generator().manual_seed(0)).to(torch.float32)
    start = camera_at(origin[0] + 1.25, origin[1] - 2.5, origin[2] + 3)
    path = tmp_path / f"s{extension}"
    write_scene(path, SceneSource.of(scene, origin, start=start))
    found = open_scene(path).start
    assert found is not None
    assert torch.allclose(found.c2w, start.c2w, rtol=0, atol=1e-6)
    ratio = found.height / start.height
    assert torch.allclose(found.Ks, start.resized(found.width, found.height).Ks, rtol=0.01)
    assert abs(found.width / start.width - ratio) < 0.01 * ratio


def test_a_scene_without_cameras_has_none(tmp_path: Path) -> None:
    scene = random_gaussians(30, torch.Generator()).to(torch.float32)
    for extension in (".ply", ".sog", ".glb", ".spz", ".splat"):
        write_scene(tmp_path / f"s{extension}", SceneSource.of(scene.cut_sh(0)))
        assert open_scene(tmp_path / f"s{extension}").start is None


@pytest.mark.parametrize(("x", "y"), [(0, 1), (1, 0), (-1, 0), (0, -1)])
def test_upright_camera_sees_the_same_from_the_same_position(x: int, y: int) -> None:
    stored = camera_at(1, 2, 3)
    stored = replace(stored, Ks=stored.Ks + torch.tensor([[0, 0, 5.0], [0, 0, -3], [0, 0, 0]]))
    shown = rotated_upright(stored, x, y)
    assert torch.allclose(shown.centers, stored.centers)
    points = stored.centers + stored.c2w[:, :3, :3] @ torch.tensor([0.1, 0.2, 2.0]).double()
    before, after = (c.project(points)[0][0, 0] for c in (stored, shown))
    # EXIF 6 (down is +x): the stored pixels rotated clockwise.
    width, height = stored.width, stored.height
    expected = {
        (0, 1): (before[0], before[1]),
        (1, 0): (height - before[1], before[0]),
        (-1, 0): (before[1], width - before[0]),
        (0, -1): (width - before[0], height - before[1]),
    }[x, y]
    assert np.allclose(after, expected)


def test_other_comments_and_damaged_values_are_no_camera() -> None:
    good = camera_at(1, 2, 3)
    assert from_comments(["generated", to_comment(good), "antialiased 1"]) is not None
    assert from_comments([]) is None
    values = to_json(good)
    zeros = [[0.0] * 4] * 3
    mirrored = (-np.array(values["c2w"])).tolist()
    huge = 10**400
    for wrong in (
        None,
        [],
        {},
        values | {"c2w": zeros},
        values | {"c2w": mirrored},
        values | {"c2w": [[1]]},
        values | {"c2w": [[float("nan")] * 4] * 3},
        values | {"width": 0},
        values | {"height": huge},
        values | {"width": "x"},
        values | {"fx_fy_cx_cy": [0, 0, 1, 1]},
        values | {"fx_fy_cx_cy": [1e300, 1, 1, 1]},
        values | {"fx_fy_cx_cy": [1, 1]},
    ):
        assert from_json(wrong) is None, wrong
    for text in ("", "{", "[" * 100_000, json.dumps(values)[:-3]):
        assert from_comments([f"recon start camera: {text}"]) is None


def test_recon_render_looks_from_a_photo_as_it_is_shown(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sideways"
    folder.mkdir()
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(sample / "images" / "000.jpg") as photo:
        # The stored pixels are rotated counterclockwise, and EXIF says so.
        photo.rotate(90, expand=True).save(folder / "a.jpg", exif=exif, quality=95)
        shown = np.asarray(photo.resize((96, 72)), np.float32)
    scene, image = tmp_path / "s.ply", tmp_path / "i.png"
    words = f"{folder} -o {scene} --resolution 96 --refine 0 --quiet"
    cli.main(words.split())
    cli.main(["render", str(scene), "-o", str(image), "--size", "96x72"])
    assert "guessed" not in capsys.readouterr().out
    with Image.open(image) as rendered:
        pixels = np.asarray(rendered, np.float32)
    assert np.abs(pixels - shown).mean() < 20


def test_saving_and_loading_keeps_it(tmp_path: Path) -> None:
    scene = random_gaussians(30, torch.Generator()).to(torch.float32)
    made = Scene(scene, cameras=camera_at(1, 2, 3).to(torch.float32))
    made.save(tmp_path / "a.ply")
    again = load(tmp_path / "a.ply")
    assert again.start is not None
    again.save(tmp_path / "b.glb")
    kept = load(tmp_path / "b.glb").start
    assert kept is not None
    assert torch.allclose(kept.centers, torch.tensor([1.0, 2, 3]).double(), atol=1e-5)
