"""Photos keep what they show, and nothing else, of what cameras see through."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mesh_scenes import CENTER, RADIUS, around, sphere
from PIL import Image

from recon.capture import Frame, FrameCamera, write_transforms
from recon.cleaning.photo_evidence import wanted_by_photos, warn_of_other_scene
from recon.cli.main import main
from recon.errors import ReconWarning
from recon.formats import save_gaussians
from recon.types import Views
from render import Cameras, Gaussians, rasterize

COUNT = 4000


def photos(scene: Gaussians, gains: list[float] | None = None) -> Views:
    cameras = around()
    with torch.no_grad():
        images = torch.cat([rasterize(scene, camera).rgb for camera in cameras])
    if gains is not None:
        images = images * torch.tensor(gains)[:, None, None, None]
    whole = torch.ones(len(cameras), 1, *images.shape[-2:])
    together = Cameras(
        torch.cat([camera.viewmats for camera in cameras]),
        torch.cat([camera.Ks for camera in cameras]), cameras[0].width, cameras[0].height,
    )  # fmt: skip
    return Views(images, whole, whole, together, tuple(f"{i}.png" for i in range(len(cameras))))


def cap_and_rest(scene: Gaussians) -> tuple[Gaussians, Gaussians]:
    """Split the sphere into a cap that faces one camera, and the rest."""
    outward = (scene.means - torch.tensor(CENTER)) / RADIUS
    toward = torch.nn.functional.normalize(around()[0].centers[0] - torch.tensor(CENTER), dim=0)
    is_cap = outward @ toward > 0.95
    return scene[is_cap], scene[~is_cap]


def specks() -> Gaussians:
    """Return blue specks between the sphere, which has no blue, and cameras that miss no cap."""
    centers = torch.cat([camera.centers for camera in around()[1:]])
    sh = torch.full((len(centers), 1, 3), -1.7)
    sh[:, :, 2] = 1.7
    return Gaussians(
        means=0.5 * (centers + torch.tensor(CENTER)),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(len(centers), 4),
        scales=torch.full((len(centers), 3), 0.02),
        opacities=torch.full((len(centers),), 0.9),
        sh=sh,
    )


@pytest.mark.parametrize("gains", [None, [0.8, 1.2, 0.9, 1.1, 1.0, 1.25, 0.85, 1.0]])
def test_what_photos_show_is_wanted_and_floaters_are_not(gains: list[float] | None) -> None:
    whole = sphere(COUNT)
    cap, rest = cap_and_rest(whole)
    candidates = Gaussians.cat([cap, specks()])
    wanted = wanted_by_photos(rest, candidates, photos(whole, gains), limit=0.0)
    # Each is tried alone, and hides a part of what the others would show.
    assert float(wanted[: len(cap)].float().mean()) > 0.5
    assert not wanted[len(cap) :].any()


def test_a_limit_keeps_less() -> None:
    whole = sphere(COUNT)
    cap, rest = cap_and_rest(whole)
    views = photos(whole)
    counts = [int(wanted_by_photos(rest, cap, views, limit).sum()) for limit in (0.0, 0.5, 1e6)]
    assert counts[0] > counts[1] >= counts[2] == 0


def test_photos_of_another_scene_are_told() -> None:
    views = photos(sphere(COUNT), [0.8, 1.2, 0.9, 1.1, 1.0, 1.25, 0.85, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_scene(Gaussians.cat([sphere(COUNT), specks()]), views)
        masked = replace(views, masks=torch.zeros_like(views.masks))
        warn_of_other_scene(specks(), masked)
    with pytest.warns(ReconWarning, match=r"photos do not look like this scene \(PSNR \d+ dB"):
        warn_of_other_scene(replace(sphere(COUNT), means=sphere(COUNT).means + 2 * RADIUS), views)


def test_pixels_that_are_not_valid_say_nothing() -> None:
    whole = sphere(COUNT)
    cap, rest = cap_and_rest(whole)
    views = photos(whole)
    views = replace(views, valid=torch.zeros_like(views.valid))
    assert not wanted_by_photos(rest, cap, views, 0.0).any()


@pytest.mark.parametrize("shown", [True, False])
def test_the_command_keeps_what_its_photos_show(
    tmp_path: Path, capsys: pytest.CaptureFixture, shown: bool
) -> None:
    pytest.importorskip("scipy")
    scene = Gaussians.cat([sphere(COUNT), specks()])
    save_gaussians(tmp_path / "a.ply", scene)
    views = photos(scene if shown else sphere(COUNT))
    frames = []
    for name, image, camera in zip(views.names, views.images, around(), strict=True):
        pixels = (255 * image.clamp(0, 1)).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / name)
        known = FrameCamera(camera.viewmats[0], camera.Ks[0], camera.width, camera.height)
        frames.append(Frame(name, tmp_path / name, known))
    write_transforms(tmp_path / "transforms.json", frames)
    words = [str(tmp_path / name) for name in ("a.ply", "b.ply", "transforms.json")]
    main(["clean", words[0], "-o", words[1], "--cameras", words[2], "--json"])
    removed = json.loads(capsys.readouterr().out)["removed"]
    assert removed == 0 if shown else removed >= len(specks()) - 1
