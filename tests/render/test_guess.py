"""A first view for scenes that come without cameras."""

from dataclasses import replace

import pytest
import torch
from helpers import random_gaussians

from render import Cameras, Gaussians, guess
from render.directions import spread_directions
from render.guess import default_camera
from render.quaternions import rotmats_to_quats


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


def flat(generator: torch.Generator, half: float, hole: float = 0.0) -> Gaussians:
    """Make an opaque square at z = 0, with a square hole in it."""
    means = torch.cat([(2 * torch.rand(6000, 2, generator=generator) - 1) * half,
                       torch.zeros(6000, 1)], 1)  # fmt: skip
    means = means[means.abs().amax(1) > hole]
    count = len(means)
    scales = torch.tensor([0.08, 0.08, 0.001]).repeat(count, 1)
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(count, 1)
    return Gaussians(means, quats, scales, torch.full((count,), 0.95), torch.zeros(count, 1, 3))


def test_the_score_is_the_deviation_of_sizes_from_distances(generator: torch.Generator) -> None:
    directions = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=1)
    directions[:, 2] = directions[:, 2].abs() + 3
    distance = 1 + 4 * torch.rand(400, generator=generator)
    means = distance[:, None] * torch.nn.functional.normalize(directions, dim=1)
    positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 2]])
    scores = guess._score(positions, means, (0.01 * distance).log())
    assert scores[0] < 1e-5 and (scores[1:] > 0.05).all()
    # Every other Gaussian is twice as large: 30 % of the deviations may be larger than the score.
    size = (0.01 * distance * torch.tensor([1.0, 1, 1, 1, 2]).repeat(80)).log()
    assert guess._score(positions, means, size)[0] < 1e-5
    size = (0.01 * distance * torch.tensor([1.0, 1, 2]).repeat(134)[:400]).log()
    assert float(guess._score(positions, means, size)[0]) == pytest.approx(0.693, abs=0.01)


def test_the_score_is_raised_where_gaussians_lie_all_around() -> None:
    sphere = spread_directions(400).float()
    size = torch.tensor([0.0, 0.2]).repeat(200)
    ahead = torch.cat([sphere[:, :2] * 0.01, torch.ones(400, 1)], 1)
    position = torch.zeros(1, 3)
    around, one = (float(guess._score(position, means, size)) for means in (sphere, ahead))
    expected = 1 + guess.SPREAD_PENALTY * guess.PHOTO_CONCENTRATION
    assert around / one == pytest.approx(expected, rel=0.02)


def test_the_coverage_is_that_of_the_middle_of_the_image(generator: torch.Generator) -> None:
    position, middle = torch.tensor([0.0, 0, 3]), torch.zeros(3)
    assert guess._coverage(flat(generator, 3), position, middle) > 0.97
    # The image is 3.5 wide at the square, and its middle 1.7.
    assert guess._coverage(flat(generator, 3, hole=1.2), position, middle) < 0.02
    assert 0.1 < guess._coverage(flat(generator, 0.3), position, middle) < 0.5
    assert guess._coverage(flat(generator, 3), position, torch.tensor([0.0, 0, 9])) < 0.01


def test_the_surface_that_is_seen_has_its_points_and_normals(generator: torch.Generator) -> None:
    for position in (torch.tensor([0.0, -2, 2]), torch.tensor([0.0, -2, -2])):
        rotmat = guess._any_rotation(-position)
        points, normals = guess._surface(
            guess._rendered(flat(generator, 4), rotmat, position), rotmat
        )
        assert len(points) > 200 and float((points + position)[:, 2].abs().median()) < 0.1
        # Toward the camera, on either side.
        assert float(normals[:, 2].median() * position[2].sign()) > 0.95


@pytest.mark.parametrize("term", ["rises", "faces"])
@pytest.mark.parametrize("up", [(0.0, 0, 1), (0.0, -1, 0), (0.0, 1, 0)])
def test_either_term_alone_tells_up(
    term: str, up: tuple[float, float, float], generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(guess, "UP_AXES", dict.fromkeys(guess.UP_AXES, 0.0))
    if term == "rises":
        monkeypatch.setattr(guess, "FACING_WEIGHT", 0.0)
    else:
        monkeypatch.setattr(torch, "corrcoef", lambda rows: torch.zeros(2, 2))
    # A ground, from above and obliquely.
    axis = torch.tensor(up)
    side = torch.roll(axis, 1).abs()
    third = torch.linalg.cross(axis, side)
    basis = torch.stack([side, third, axis], 1)
    ground = flat(generator, 4)
    quats = rotmats_to_quats(basis * torch.linalg.det(basis)).repeat(len(ground), 1)
    ground = replace(ground, means=ground.means @ basis.T, quats=quats)
    viewmat = guess._upright(ground, ground, 2 * axis - 2.5 * side + 0.3 * third)
    assert float(-viewmat[0, 1, :3] @ axis) > 0.6


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


@pytest.mark.parametrize("count, expected", [(0, 0), (3, 3), (4000, 4000), (7999, 4000)])
def test_a_part_has_at_most_as_many_as_asked_for(count: int, expected: int) -> None:
    indices = guess._subsample(count, 4000, torch.device("cpu"))
    assert len(indices) == len(indices.unique()) == expected
    assert not len(indices) or int(indices.max()) >= count - 2
