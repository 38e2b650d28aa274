"""What is left of a cleaned scene takes over what its photos show."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mesh_scenes import around, sphere
from PIL import Image
from torch import Tensor

from recon.capture import Frame, FrameCamera, write_transforms
from recon.cleaning.refit import refit
from recon.cli.main import main
from recon.formats import load_gaussians, save_gaussians
from recon.local_frame import scale_cameras, scale_gaussians
from recon.types import Views
from render import Cameras, Gaussians, rasterize

pytest.importorskip("scipy")


def renders(scene: Gaussians, cameras: list[Cameras]) -> Tensor:
    with torch.no_grad():
        return torch.cat([rasterize(scene, camera).rgb for camera in cameras])


def photos(scene: Gaussians, cameras: list[Cameras]) -> Views:
    images = renders(scene, cameras)
    whole = torch.ones(len(cameras), 1, *images.shape[-2:])
    together = Cameras(
        torch.cat([camera.viewmats for camera in cameras]),
        torch.cat([camera.Ks for camera in cameras]),
        cameras[0].width,
        cameras[0].height,
    )
    names = tuple(f"{i}.png" for i in range(len(cameras)))
    return Views(images, whole, whole, together, names)


def test_errors_of_the_colours_are_learned_away() -> None:
    true, cameras = sphere(4000), around()
    views = photos(true, cameras)
    wrong = replace(true, sh=true.sh + 0.2)
    found = refit(wrong, views)
    assert len(found) == len(wrong) and found.sh.shape == wrong.sh.shape

    def error(scene: Gaussians) -> float:
        return float((renders(scene, cameras) - views.images).abs().mean())

    assert error(found) < 0.5 * error(wrong)
    moved = (found.means - wrong.means).norm(dim=1).median()
    assert float(moved) < 3 * float(wrong.scales.max())


@pytest.mark.parametrize(
    ("words", "has_photos", "steps", "scale"),
    [
        ([], True, 60, 1e-4),
        (["--refine", "0"], True, 0, 1.0),
        ([], False, 0, 1.0),
        (["--refine", "5"], True, 5, 1.0),
    ],
)
def test_the_command_refines_where_there_are_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture,
    words: list[str], has_photos: bool, steps: int, scale: float,
) -> None:  # fmt: skip
    scene = scale_gaussians(sphere(4000), scale)
    cameras = [scale_cameras(each, scale) for each in around(4)]
    speck = scene[:1]
    above = replace(
        speck, means=0.5 * (scene.means.mean(0, keepdim=True) + cameras[0].centers),
        scales=torch.full((1, 3), 0.01 * scale),
    )  # fmt: skip
    save_gaussians(tmp_path / "a.ply", Gaussians.cat([scene, above]))
    frames = []
    for i, (camera, image) in enumerate(zip(cameras, renders(scene, cameras), strict=True)):
        path = tmp_path / f"{i}.png"
        if has_photos:
            pixels = (255 * image.clamp(0, 1)).byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(path)
        known = FrameCamera(camera.viewmats[0], camera.Ks[0], camera.width, camera.height)
        frames.append(Frame(path.name, path, known))
    write_transforms(tmp_path / "transforms.json", frames)
    out = str(tmp_path / "b.ply")
    main(["clean", str(tmp_path / "a.ply"), "-o", out, "--cameras",
          str(tmp_path / "transforms.json"), "--json", *words])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] >= 1 and told["steps"] == steps
    shown = renders(load_gaussians(Path(out)), cameras)
    assert float((shown - renders(scene, cameras)).abs().mean()) < 0.02


def test_negative_steps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_gaussians(tmp_path / "a.ply", sphere(300))
    with pytest.raises(SystemExit) as stopped:
        main(["clean", str(tmp_path / "a.ply"), "-o", str(tmp_path / "b.ply"), "--refine", "-1"])
    assert stopped.value.code == 2 and "--refine" in capsys.readouterr().err
    assert not (tmp_path / "b.ply").exists()
