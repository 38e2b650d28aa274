"""Sky and object: what is kept, moved and dropped of scenes of known parts."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from recon.capture import Frame, FrameCamera, write_transforms
from recon.cleaning.central_object import object_by_ground, object_by_masks
from recon.cleaning.floaters import find_floaters
from recon.cleaning.sky import find_sky, onto_sphere
from recon.cli.main import main
from recon.errors import InputError, ReconWarning
from recon.formats import load_gaussians, save_gaussians
from recon.types import Views
from render import Cameras, Gaussians, rasterize
from render.cameras import look_at

pytest.importorskip("scipy")
UP = torch.tensor([0.0, 0.0, 1.0])


def blobs(means: torch.Tensor, size: float, color: float = 0.0) -> Gaussians:
    """Return round opaque Gaussians at these positions."""
    count = len(means)
    return Gaussians(
        means, torch.tensor([1.0, 0, 0, 0]).expand(count, 4), torch.full((count, 3), size),
        torch.full((count,), 0.95), torch.full((count, 1, 3), color),
    )  # fmt: skip


def ring(count: int = 12, height: float = 1.0) -> list[Cameras]:
    """Return upright cameras around the origin that look at it."""
    found = []
    for index in range(count):
        angle = 2 * math.pi * index / count
        position = torch.tensor([3 * math.cos(angle), 3 * math.sin(angle), height])
        found.append(Cameras.from_fov(look_at(position, torch.zeros(3), UP)[None], 60.0, 96, 72))
    return found


def scattered(count: int, low: list[float], high: list[float], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    span = torch.tensor(high) - torch.tensor(low)
    return torch.tensor(low) + span * torch.rand(count, 3, generator=generator)


def ground() -> Gaussians:
    return blobs(scattered(4000, [-6, -6, -0.505], [6, 6, -0.5], 1), 0.06, 0.3)


def thing() -> Gaussians:
    """A column that stands on the ground."""
    return blobs(scattered(2000, [-0.4, -0.4, -0.48], [0.4, 0.4, 0.6], 2), 0.04, -0.8)


def dome(count: int = 600) -> Gaussians:
    """Sky at 40 to 60 units."""
    directions = torch.nn.functional.normalize(
        scattered(count, [-1, -1, 0.15], [1, 1, 1], 3), dim=1
    )
    generator = torch.Generator().manual_seed(4)
    distance = 40 + 20 * torch.rand(count, 1, generator=generator)
    return blobs(distance * directions, 3.0, 1.0)


def test_sky_is_what_is_far_and_above_and_bright() -> None:
    dark_tree = blobs(scattered(50, [8, 8, 1.0], [9, 9, 6.0], 7), 0.5, -1.0)
    assert not find_sky(Gaussians.cat([ground(), thing(), dark_tree]), ring()).any()
    parts = [ground(), thing(), dome()]
    far_hill = blobs(scattered(50, [40, 40, -3.0], [45, 45, -1.0], 5), 1.0)
    found = find_sky(Gaussians.cat([*parts, far_hill]), ring())
    assert found[6000:6600].all() and int(found.sum()) == 600


def test_sky_on_a_sphere_looks_the_same_from_the_middle() -> None:
    scene = Gaussians.cat([ground(), thing(), dome()])
    cameras = ring()
    sky = find_sky(scene, cameras)
    moved = onto_sphere(scene, sky, cameras)
    middle = torch.cat([camera.centers for camera in cameras]).mean(0)
    distance = (moved.means - middle).norm(dim=1)
    assert float(distance[sky].std()) < 1e-3 and distance[sky].min() > distance[~sky].max()
    assert torch.equal(moved.means[~sky], scene.means[~sky])
    view = look_at(middle, middle + torch.tensor([1.0, 0.3, 0.6]), UP)
    camera = Cameras.from_fov(view[None], 60.0, 96, 72)
    before, after = (rasterize(each, camera).rgb for each in (scene, moved))
    assert float(before.mean()) > 0.1 and float((before - after).square().mean()) < 1e-3


def test_sky_needs_upright_cameras() -> None:
    upside_down = torch.diag(torch.tensor([-1.0, -1, 1, 1]))
    cameras = [
        replace(camera, viewmats=upside_down @ camera.viewmats) if index % 2 else camera
        for index, camera in enumerate(ring())
    ]
    with pytest.raises(InputError, match="no up direction in common"):
        find_sky(thing(), cameras)


@pytest.mark.parametrize("height", [1.0, 2.5])
def test_the_object_stands_on_the_ground(height: float) -> None:
    wall = blobs(scattered(1500, [2.0, -2, -0.5], [2.05, 2, 1], 6), 0.06)
    scene = Gaussians.cat([ground(), thing(), wall, dome()])
    found = object_by_ground(scene, ring(height=height))
    # Its lowest part is as near to the ground as the ground itself.
    assert float(found[4000:6000].float().mean()) > 0.93
    assert int(found.sum()) - int(found[4000:6000].sum()) < 20


def test_an_object_in_the_air_needs_no_ground() -> None:
    cameras = [replace(c, viewmats=c.viewmats) for c in ring(height=0.0)]
    found = object_by_ground(thing(), cameras)
    assert float(found.float().mean()) > 0.95


def test_cameras_that_do_not_meet_are_told() -> None:
    ahead = torch.eye(4).repeat(2, 1, 1)
    ahead[1, 0, 3] = 1.0
    cameras = [Cameras.from_fov(view[None], 60.0, 96, 72) for view in ahead]
    with pytest.raises(InputError, match="are parallel and do not meet"):
        object_by_ground(thing(), cameras)


def test_masks_decide_what_the_object_is() -> None:
    cameras = ring()
    scene = Gaussians.cat([ground(), thing()])
    alone = [rasterize(thing(), camera).alpha[0] > 0.05 for camera in cameras]
    masks = torch.stack(alone).float()
    row = Cameras.cat(cameras)
    names = tuple(str(index) for index in range(len(cameras)))
    views = Views(masks.expand(-1, 3, -1, -1), masks, torch.ones_like(masks), row, names)
    found = object_by_masks(scene, views)
    assert float(found[4000:].float().mean()) > 0.95
    # What is behind it in all photos is inside the masks as well.
    assert float(found[:4000].float().mean()) < 0.1


def test_the_command_drops_the_sky_and_keeps_the_object(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scene, cameras = tmp_path / "a.ply", tmp_path / "transforms.json"
    save_gaussians(scene, Gaussians.cat([ground(), thing(), dome()]))
    known = [FrameCamera(c.viewmats[0], c.Ks[0], c.width, c.height) for c in ring()]
    frames = [Frame(f"{i}.png", tmp_path / f"{i}.png", c) for i, c in enumerate(known)]
    write_transforms(cameras, frames)
    (tmp_path / "out").mkdir()
    common = ["clean", str(scene), "-o", str(tmp_path / "out" / "b.ply")]
    with pytest.raises(SystemExit) as end:
        main([*common, "--sky", "drop"])
    assert end.value.code == 2
    assert "--sky drop needs the cameras of the photos" in capsys.readouterr().err
    options = ["--cameras", str(cameras), "--sky", "drop", "--object", "--json"]
    options += ["--force"]
    main([*common, *options])
    told = json.loads(capsys.readouterr().out)
    assert told["sky_dropped"] == 600 and told["around_the_object"] > 3900
    assert told["gaussians"] == len(load_gaussians(tmp_path / "out" / "b.ply")) > 1800
    # Photos with alpha: the masks decide, here an empty one in every photo.
    for frame in frames:
        Image.new("RGBA", (96, 72), (0, 0, 0, 0)).save(frame.image_path)
    with pytest.raises(SystemExit):
        main([*common, *options])
    assert "nothing of the scene would be left" in capsys.readouterr().err


def test_cameras_that_see_nothing_are_told() -> None:
    away = [
        replace(c, viewmats=c.viewmats * torch.tensor([1, 1, -1, 1.0])[:, None]) for c in ring()
    ]
    with pytest.warns(ReconWarning, match="the cameras see no surface of the scene"):
        assert not find_floaters(blobs(torch.zeros(30, 3), 0.1), away).any()
