"""Equirectangular images: directions, agreement with pinhole images, distances."""

import math

import pytest
import torch
from helpers import psnr, random_gaussians

from render import Cameras, Gaussians, rasterize
from render.panorama import panorama_directions, rasterize_panorama


def camera_inside(dtype: torch.dtype = torch.float32) -> Cameras:
    """One camera at the origin, rotated about all axes."""
    viewmat = torch.eye(4, dtype=dtype)
    viewmat[:3, :3] = torch.linalg.qr(
        torch.tensor([[1.0, 0.3, -0.2], [0.1, 1.0, 0.4], [0.3, -0.2, 1.0]], dtype=dtype)
    ).Q
    viewmat[:3, :3] *= torch.linalg.det(viewmat[:3, :3]).sign()
    return Cameras.from_focal(viewmat[None], 50.0, 64, 48)


def shell(count: int, generator: torch.Generator) -> Gaussians:
    """Gaussians all around the origin, at distances of about 3."""
    scene = random_gaussians(count, generator, dtype=torch.float32)
    directions = torch.nn.functional.normalize(scene.means, dim=-1)
    return Gaussians(
        3 * directions + 0.2 * scene.means, scene.quats, scene.scales, scene.opacities, scene.sh
    )


def test_directions_follow_the_axes() -> None:
    directions = panorama_directions(256, 128, torch.zeros(1))
    assert torch.allclose(directions.norm(dim=-1), torch.ones(128, 256))
    for (row, column), axis in {
        (64, 128): (0, 0, 1), (64, 192): (1, 0, 0), (64, 64): (-1, 0, 0), (64, 0): (0, 0, -1),
        (0, 128): (0, -1, 0), (127, 128): (0, 1, 0),
    }.items():  # fmt: skip
        assert float(directions[row, column] @ torch.tensor(axis).float()) > 0.999


@pytest.mark.parametrize("yaw_deg", [0.0, 45.0, 135.0, 180.0])
@pytest.mark.parametrize("pitch_deg", [0.0, 45.0, -80.0])
def test_pinhole_images_are_parts_of_it(
    yaw_deg: float, pitch_deg: float, generator: torch.Generator
) -> None:
    """Also at the edges and corners of the faces, where two or three of them are blended."""
    scene, base = shell(3000, generator), camera_inside()
    background = torch.tensor([0.2, 0.4, 0.6])
    panorama = rasterize_panorama(scene, base, 1024, backgrounds=background)
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    ahead = torch.tensor([
        [math.cos(yaw), 0, math.sin(yaw), 0], [0, 1, 0, 0], [-math.sin(yaw), 0, math.cos(yaw), 0],
        [0, 0, 0, 1]])  # fmt: skip
    down = torch.tensor([
        [1, 0, 0, 0], [0, math.cos(pitch), math.sin(pitch), 0],
        [0, -math.sin(pitch), math.cos(pitch), 0], [0, 0, 0, 1]])  # fmt: skip
    viewmats = (ahead @ down).mT @ base.viewmats
    view = Cameras.from_focal(viewmats, 300.0, 160, 120)
    pinhole = rasterize(scene, view, backgrounds=background)
    rays = view.rays()[1][0] @ base.viewmats[0, :3, :3].T
    unit = torch.nn.functional.normalize(rays, dim=-1)
    longitude, latitude = torch.atan2(unit[..., 0], unit[..., 2]), unit[..., 1].asin()
    grid = torch.stack([longitude / math.pi, latitude / (math.pi / 2)], -1)[None]
    # A copy on either side continues the image beyond its edges.
    tiled = torch.cat([panorama.rgb, panorama.rgb, panorama.rgb], -1)
    grid[..., 0] /= 3
    sampled = torch.nn.functional.grid_sample(tiled, grid, align_corners=False)
    assert psnr(sampled, pinhole.rgb) > 33


def test_depth_is_the_distance_along_the_ray() -> None:
    """A dense sphere around the camera has one distance in all directions."""
    z = torch.linspace(-1, 1, 20000)
    angle = 2.399963 * torch.arange(20000)  # the golden angle spreads them evenly
    around = (1 - z * z).sqrt()
    directions = torch.stack([around * angle.cos(), around * angle.sin(), z], -1)
    scene = Gaussians(
        2 * directions, torch.tensor([[1.0, 0, 0, 0]]).expand(20000, 4),
        torch.full((20000, 3), 0.03), torch.full((20000,), 0.9), torch.zeros(20000, 1, 3),
    )  # fmt: skip
    output = rasterize_panorama(scene, camera_inside()[0], 128)
    assert output.rgb.shape == (1, 3, 64, 128)
    assert float(output.alpha.min()) > 0.9
    assert float((output.expected_depth - 2).abs().max()) < 0.08


def test_widths_that_do_not_fit_are_named(generator: torch.Generator) -> None:
    for width in (2, 129):
        with pytest.raises(ValueError, match=f"width is {width}, expected an even number"):
            rasterize_panorama(shell(5, generator), camera_inside(), width)
