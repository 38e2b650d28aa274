"""A first view for scenes that come without cameras."""

import pytest
import torch
from helpers import random_gaussians

from render import Cameras, Gaussians
from render.directions import spread_directions
from render.guess import default_camera


def pixel_aligned(c2w: torch.Tensor, generator: torch.Generator) -> Gaussians:
    """One Gaussian a pixel of a photo of a floor and a wall, seen by a camera at `c2w`."""
    rays_o, rays_d = Cameras.from_focal(torch.linalg.inv(c2w), 60.0, 80, 60).rays()
    v = torch.arange(60).float()[:, None].expand(60, 80)
    # The floor fills the lower half, nearer and nearer; the wall is uneven.
    depth = torch.where(v > 30, 4 / (0.5 + (v - 30) / 30), 8 + 0.5 * torch.sin(v))
    means = (rays_o + depth[..., None] * rays_d).reshape(-1, 3)
    sizes = depth.reshape(-1, 1) / 60 * torch.exp(0.2 * torch.randn(4800, 3, generator=generator))
    quats = torch.nn.functional.normalize(torch.randn(4800, 4, generator=generator), dim=1)
    return Gaussians(means, quats, sizes, torch.full((4800,), 0.9), torch.zeros(4800, 1, 3))


@pytest.mark.parametrize("up", [(0, -1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 0)])
@pytest.mark.parametrize("turn", [0.0, 2.0])
def test_it_stands_where_the_photo_was_taken(
    up: tuple[int, int, int], turn: float, generator: torch.Generator
) -> None:
    top = torch.tensor(up, dtype=torch.float32)
    side = torch.roll(top, 1).abs()
    third = torch.linalg.cross(top, side)
    ahead = torch.cos(torch.tensor(turn)) * side + torch.sin(torch.tensor(turn)) * third
    c2w = torch.eye(4)
    c2w[:3, 0], c2w[:3, 1], c2w[:3, 2] = torch.linalg.cross(-top, ahead), -top, ahead
    c2w[:3, 3] = torch.tensor([5.0, -3.0, 2.0])
    camera = default_camera(pixel_aligned(c2w, generator), 80, 60)
    # Of 8 to the wall.
    assert (camera.centers[0] - c2w[:3, 3]).norm() < 2
    assert float(camera.viewmats[0, 2, :3] @ ahead) > 0.9
    assert float(-camera.viewmats[0, 1, :3] @ top) > 0.9
    assert torch.allclose(torch.linalg.det(camera.viewmats[0, :3, :3]), torch.tensor(1.0))


def test_sizes_that_tell_nothing(generator: torch.Generator) -> None:
    scene = random_gaussians(500, generator, dtype=torch.float32)
    scales = scene.scales * torch.exp(2 * torch.randn(500, 1, generator=generator))
    scene = Gaussians(scene.means, scene.quats, scales, scene.opacities, scene.sh)
    camera = default_camera(scene, 80, 60)
    assert torch.equal(camera.viewmats[0, :3, :3], torch.eye(3))


@pytest.mark.parametrize("count", [1, 2])
def test_hardly_a_scene(count: int, generator: torch.Generator) -> None:
    camera = default_camera(random_gaussians(count, generator, dtype=torch.float32), 80, 60)
    assert camera.viewmats.isfinite().all()


def test_directions_are_spread() -> None:
    directions = spread_directions(200)
    assert torch.allclose(directions.norm(dim=1), torch.ones(200).double())
    assert directions.mean(0).norm() < 0.01
    nearest = (directions @ directions.T - 2 * torch.eye(200)).max(1).values.arccos()
    assert nearest.min() > 0.5 * nearest.median()
