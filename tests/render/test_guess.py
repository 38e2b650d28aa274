"""A first view for scenes that come without cameras."""

import pytest
import torch
from helpers import random_gaussians

from render import Cameras, Gaussians
from render.directions import spread_directions
from render.guess import default_camera


def pixel_aligned(c2w: torch.Tensor, generator: torch.Generator) -> Gaussians:
    """Make one Gaussian for each pixel of a photo of a ground and a wall by a camera at `c2w`."""
    rays_o, rays_d = Cameras.from_focal(torch.linalg.inv(c2w), 60.0, 80, 60).rays()
    v = torch.arange(60).float()[:, None].expand(60, 80)
    # The ground fills the lower half, nearer and nearer; the wall is uneven.
    depth = torch.where(v > 30, 4 / (0.5 + (v - 30) / 30), 8 + 0.5 * torch.sin(v))
    means = (rays_o + depth[..., None] * rays_d).reshape(-1, 3)
    sizes = depth.reshape(-1, 1) / 60 * torch.exp(0.2 * torch.randn(4800, 3, generator=generator))
    quats = torch.nn.functional.normalize(torch.randn(4800, 4, generator=generator), dim=1)
    return Gaussians(means, quats, sizes, torch.full((4800,), 0.9), torch.zeros(4800, 1, 3))


@pytest.mark.parametrize("up", [(0, -1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 0)])
@pytest.mark.parametrize("angle", [0.0, 2.0])
def test_camera_is_found_at_the_position_of_the_photo(
    up: tuple[int, int, int], angle: float, generator: torch.Generator
) -> None:
    top = torch.tensor(up, dtype=torch.float32)
    side = torch.roll(top, 1).abs()
    third = torch.linalg.cross(top, side)
    ahead = torch.cos(torch.tensor(angle)) * side + torch.sin(torch.tensor(angle)) * third
    c2w = torch.eye(4)
    c2w[:3, 0], c2w[:3, 1], c2w[:3, 2] = torch.linalg.cross(-top, ahead), -top, ahead
    c2w[:3, 3] = torch.tensor([5.0, -3.0, 2.0])
    camera = default_camera(pixel_aligned(c2w, generator), 80, 60)
    # Of 8 to the wall.
    assert (camera.centers[0] - c2w[:3, 3]).norm() < 2
    assert float(camera.viewmats[0, 2, :3] @ ahead) > 0.9
    assert float(-camera.viewmats[0, 1, :3] @ top) > 0.9
    assert torch.allclose(torch.linalg.det(camera.viewmats[0, :3, :3]), torch.tensor(1.0))


def test_scene_without_information_in_sizes(generator: torch.Generator) -> None:
    scene = random_gaussians(500, generator, dtype=torch.float32)
    scales = scene.scales * torch.exp(2 * torch.randn(500, 1, generator=generator))
    scene = Gaussians(scene.means, scene.quats, scales, scene.opacities, scene.sh)
    camera = default_camera(scene, 80, 60)
    assert torch.equal(camera.viewmats[0, :3, :3], torch.eye(3))


@pytest.mark.parametrize("count", [1, 2])
def test_scene_of_few_gaussians(count: int, generator: torch.Generator) -> None:
    camera = default_camera(random_gaussians(count, generator, dtype=torch.float32), 80, 60)
    assert camera.viewmats.isfinite().all()


def test_directions_are_spread_evenly() -> None:
    directions = spread_directions(200)
    assert torch.allclose(directions.norm(dim=1), torch.ones(200).double())
    assert directions.mean(0).norm() < 0.01
    nearest = (directions @ directions.T - 2 * torch.eye(200)).max(1).values.arccos()
    assert nearest.min() > 0.5 * nearest.median()
