"""Procedural scenes are exact, deterministic, varied and fast."""

import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
import trimesh

from training.data import primitives
from training.data.procedural import ProceduralConfig, generate
from training.data.procedural.bank import LEVELS, SIDE_PX, TextureBank, make_bank
from training.data.procedural.hits import first_hits
from training.data.procedural.layout import KINDS, LayoutBuilder, random_layout
from training.data.procedural.solids import (
    CUBE,
    CYLINDER,
    NEVER,
    SPHERE,
    intersect,
    local_surface,
    world_normals,
)
from training.data.procedural.soup import random_soup
from training.data.types import SampleRequest, TrainingSample

CONFIG = ProceduralConfig()


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return make_bank()


def builder() -> LayoutBuilder:
    return LayoutBuilder(torch.Generator().manual_seed(0), 4)


def rays(count: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    origins = torch.tensor([0.0, -4.0, 1.0]).expand(count, 3)
    spread = torch.randn(count, 3, generator=generator) * torch.tensor([0.4, 0.1, 0.3])
    return origins, torch.tensor([0.0, 1.0, -0.15]) + spread


def flat(_: torch.Tensor) -> torch.Tensor:
    raise AssertionError("no colour is asked for")


def test_unit_shapes_are_the_primitives() -> None:
    """Depth and normal of every hit, against the closed forms of the sample scene."""
    build = builder()
    build.add(CUBE, [0.9, 0.3, 0.4], [0.3, 0.5, 0.4])
    build.add(SPHERE, [-0.8, 0.2, 0.5], [0.5, 0.5, 0.5])
    build.add(CYLINDER, [0.1, 0.8, 0.6], [0.3, 0.3, 0.6])
    layout = build.layout("plain")
    expected = [
        primitives.Box((0.9, 0.3, 0.4), (0.6, 1.0, 0.8), 0.0, flat),
        primitives.Sphere((-0.8, 0.2, 0.5), 0.5, flat),
        primitives.Cylinder((0.1, 0.8, 0.0), 0.3, 1.2, flat),
    ]
    origins, dirs = rays()
    hits = intersect(layout.solids, origins, dirs)
    reference = [solid.hit(origins.double(), dirs.double()) for solid in expected]
    depth, which = torch.stack([t for t, _ in reference]).min(0)
    found = depth < primitives.FAR
    assert torch.equal(found, hits.depth < NEVER) and int(found.sum()) > 400
    assert torch.equal(which[found], hits.solid[found])
    assert torch.allclose(hits.depth[found].double(), depth[found], rtol=1e-4)
    points = origins + hits.depth[:, None].clamp_max(100) * dirs
    normals = world_normals(layout.solids, hits, local_surface(layout.solids, hits, points)[1])
    normal = torch.stack([n for _, n in reference])[which, torch.arange(len(which))]
    close = (normals.double() - normal).norm(dim=-1)[found] < 1e-2
    assert float(close.float().mean()) > 0.995  # all but rays on an edge


def test_a_cut_shows_the_cutters_inside() -> None:
    """A sphere with a smaller sphere cut out of its front: the back of the cut is visible."""
    build = builder()
    ball = build.add(SPHERE, [0, 0, 0], [1, 1, 1])
    build.cut(ball, build.add(SPHERE, [0, -1, 0], [0.5, 0.5, 0.5]))
    solids = build.layout("plain").solids
    origins = torch.tensor([[0.0, -4, 0], [0.8, -4, 0]])
    dirs = torch.tensor([[0.0, 1, 0], [0.0, 1, 0]])
    hits = intersect(solids, origins, dirs)
    assert hits.depth[0] == pytest.approx(3.5) and hits.depth[1] == pytest.approx(3.4)
    assert hits.inner.tolist() == [True, False]
    points = origins + hits.depth[:, None] * dirs
    normals = world_normals(solids, hits, local_surface(solids, hits, points)[1])
    assert torch.allclose(normals[0], torch.tensor([0.0, -1, 0]), atol=1e-3)


def test_same_seed_same_bytes(bank: TextureBank) -> None:
    requests = [SampleRequest(seed, 3, 0, 48, 40) for seed in (5, 5, 6)]
    one, two, other = (generate(request, CONFIG, make_bank()) for request in requests)
    assert torch.equal(one.images, two.images) and torch.equal(one.depth, two.depth)
    assert torch.equal(one.cameras.viewmats, two.cameras.viewmats)
    assert not torch.equal(one.images, other.images)


def test_depth_is_the_same_surface_in_every_view(bank: TextureBank) -> None:
    """A point of one view, seen by another, lies on its surface or behind something."""
    agreeing, total = 0, 0
    for seed in range(6):
        sample = generate(SampleRequest(seed, 2, 0, 96, 96), CONFIG, bank)
        rays_o, rays_d = sample.cameras.rays()
        solid = sample.depth[0] < 0.999 * sample.far[0]
        points = (rays_o[0] + sample.depth[0][..., None] * rays_d[0])[solid]
        means2d, depth = sample.cameras[[1]].project(points)
        x, y = means2d[0].floor().long().unbind(-1)
        inside = (x >= 0) & (x < 96) & (y >= 0) & (y < 96) & (depth[0] > 0.1)
        seen = sample.depth[1][y[inside], x[inside]]
        mine = depth[0][inside]
        # Nothing of the scene may lie in front of what the other view sees around there.
        around = -torch.nn.functional.max_pool2d(-sample.depth[1][None], 3, 1, 1)[0]
        nearest = around[y[inside], x[inside]]
        assert float((mine < 0.97 * nearest).float().mean()) < 0.005
        agreeing += int(((mine - seen).abs() < 0.03 * seen).sum())
        total += int(inside.sum())
    assert agreeing > 0.6 * total > 1000


@pytest.mark.parametrize("views", [2, 5, 8])
def test_samples_are_what_networks_need(bank: TextureBank, views: int) -> None:
    contrasts = []
    for seed in range(12):
        sample = generate(SampleRequest(seed, views, 0, 40, 32), CONFIG, bank)
        assert sample.images.shape == (views, 3, 32, 40) and sample.depth.shape == (views, 32, 40)
        assert float(sample.images.min()) >= 0 and float(sample.images.max()) <= 1
        near, far = float(sample.near[0]), float(sample.far[0])
        assert 0 < near < far <= 30.001 * near
        assert near <= float(sample.depth.min()) + 1e-5
        assert float(sample.depth.max()) <= far * 1.00001
        contrasts.append(float(sample.images.std()))
    assert sorted(contrasts)[len(contrasts) // 2] > 0.1  # textured and lit, not grey


def test_scenes_vary() -> None:
    layouts = [random_layout(torch.Generator().manual_seed(s), 8) for s in range(60)]
    assert {layout.kind for layout in layouts} == set(KINDS)
    assert any(bool((layout.solids.cutters >= 0).any()) for layout in layouts)
    counts = [sum(layout.solids.counts) for layout in layouts]
    assert min(counts) <= 6 and max(counts) >= 14


def test_textures_tile_and_have_mipmaps(bank: TextureBank) -> None:
    assert len(bank.levels) == LEVELS and bank.levels[0].shape[1] == SIDE_PX
    texture = torch.arange(len(bank))
    uv = torch.full((len(bank), 2), 0.3)
    near = bank.look_up(texture, uv, torch.full((len(bank),), 1 / SIDE_PX))
    again = bank.look_up(texture, uv + 5, torch.full((len(bank),), 1 / SIDE_PX))
    assert torch.allclose(near, again, atol=1e-3)
    far = bank.look_up(texture, uv, torch.full((len(bank),), 10.0))
    mean = bank.levels[0].mean((1, 2))
    assert float((far - mean).abs().mean()) < 0.2


def test_soups_are_what_a_mesh_caster_hits() -> None:
    """Depth and facing of every soup's hits, against Embree."""
    generator = torch.Generator().manual_seed(3)
    origins, dirs = rays(1500)
    hit = 0
    for _ in range(8):
        soup = random_soup(generator, 0.9, (0.2, -0.1, 0.0))
        depth, number = soup.hit(origins, dirs)
        corners = (soup.corners + soup.center).reshape(-1, 3)
        mesh = trimesh.Trimesh(corners, torch.arange(len(corners)).reshape(-1, 3), process=False)
        points, ray, _ = mesh.ray.intersects_location(
            origins.numpy(), dirs.numpy(), multiple_hits=False
        )
        expected_depth = torch.full_like(depth, NEVER)
        expected_depth[torch.from_numpy(ray)] = torch.from_numpy(
            points[:, 1] - origins.numpy()[ray][:, 1]
        ).float()
        expected_depth = expected_depth / torch.where(expected_depth < NEVER, dirs[:, 1], 1.0)
        # All but rays along an edge.
        same = (depth - expected_depth).abs() < 1e-3 * expected_depth
        assert float(same.float().mean()) > 0.99
        found = depth < NEVER
        where = origins[found] + depth[found, None] * dirs[found]
        normals = soup.normal_at(number[found], where, dirs[found])
        assert torch.allclose(normals.norm(dim=1), torch.ones(len(normals)), atol=1e-4)
        assert bool(((normals * dirs[found]).sum(1) <= 1e-5).all())
        hit += int(found.sum())
    assert hit > 400


def test_soups_of_a_layout_have_their_own_materials() -> None:
    layouts = [random_layout(torch.Generator().manual_seed(s), 8) for s in range(40)]
    assert {len(layout.soups) for layout in layouts} == {0, 1, 2}
    for layout in layouts:
        assert len(layout.texture) == sum(layout.solids.counts) + len(layout.soups)
    layout = next(layout for layout in layouts if layout.soups)
    soup = layout.soups[0]
    above = (soup.center + torch.tensor([0.0, 0.0, 5.0])).expand(200, 3)
    down = torch.tensor([0.0, 0.0, -1.0]) + 0.08 * torch.randn(
        200, 3, generator=torch.Generator().manual_seed(0)
    )
    hits = first_hits(layout, above, down)
    assert bool((hits.depth <= intersect(layout.solids, above, down).depth).all())
    alone, _ = soup.hit(above, down)
    assert bool((hits.depth <= alone).all())
