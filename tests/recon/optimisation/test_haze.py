"""Haze before cameras is found and hidden; surfaces close to a camera stay."""

from dataclasses import replace

import torch
from torch import Tensor

from recon.optimisation.config import OptimiseConfig
from recon.optimisation.haze import is_haze
from recon.optimisation.loop import optimise
from recon.types import Views
from render import Cameras, Gaussians, rasterize
from render.sh import colors_to_sh

RADIUS = OptimiseConfig.haze_radius


def cameras_at(centers: Tensor) -> Cameras:
    viewmats = torch.eye(4).repeat(len(centers), 1, 1)
    viewmats[:, :3, 3] = -centers
    Ks = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]).repeat(len(centers), 1, 1)
    return Cameras(viewmats, Ks, 64, 48)


def blobs(means: Tensor, scale: float, opacity: float) -> Gaussians:
    count = len(means)
    return Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.full((count, 3), scale),
        torch.full((count,), opacity),
        colors_to_sh(torch.full((count, 3), 0.6)),
    )


def grid(first: Tensor, second: Tensor) -> Tensor:
    return torch.cartesian_prod(first, second)


def wall_with_floaters() -> tuple[Gaussians, Cameras, int]:
    """Six cameras side by side, a wall at a depth of 3, and floaters at 0.5 between them."""
    cameras = cameras_at(torch.tensor([[0.3 * i, 0, 0] for i in range(6)]))
    xy = grid(torch.arange(-2, 4, 0.1), torch.arange(-2, 2, 0.1))
    wall = blobs(torch.cat([xy, torch.full((len(xy), 1), 3.0)], 1), 0.08, 0.9)
    floaters = blobs(torch.tensor([[0.45, 0, 0.5], [0.75, 0.1, 0.5]]), 0.02, 0.3)
    return Gaussians.cat([wall, floaters]), cameras, len(wall)


def test_floaters_between_cameras_are_haze() -> None:
    scene, cameras, size = wall_with_floaters()
    found = is_haze(scene, cameras, RADIUS)
    assert found[size:].all() and not found[:size].any()
    assert not is_haze(scene, cameras, 0.1).any()


def test_a_road_under_later_cameras_stays() -> None:
    """What a camera passes over was seen at its depth by those behind."""
    cameras = cameras_at(torch.tensor([[0.0, 0, z] for z in range(6)]))
    xz = grid(torch.arange(-4, 4, 0.1), torch.arange(0.5, 30, 0.1))
    road = torch.stack([xz[:, 0], torch.ones(len(xz)), xz[:, 1]], 1)
    distance = torch.cdist(road, cameras.centers).amin(1)
    assert int((distance < 1.2).sum()) > 100
    assert float(is_haze(blobs(road, 0.08, 0.9), cameras, RADIUS).float().mean()) < 1e-3


def test_an_optimisation_hides_haze_of_five_views_and_more() -> None:
    scene, cameras, size = wall_with_floaters()
    clean = rasterize(scene[:size], cameras).rgb
    ones = torch.ones(len(cameras), 1, 48, 64)
    views = Views(clean, ones, ones, cameras, tuple("abcdef"))
    still = replace(OptimiseConfig(steps=4), lr_opacity=0.0)
    for count, visible in ((4, True), (6, False)):
        found = optimise(scene, views[:count], still).gaussians
        assert bool((found.opacities[size:] > 0.2).all()) == visible
        assert float(found.opacities[:size].min()) > 0.8
