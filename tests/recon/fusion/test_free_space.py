"""Gaussians that contradict the depth of other views are removed, all others stay."""

from dataclasses import replace

import pytest
import torch

from recon.fusion.config import FusionConfig
from recon.fusion.free_space import DepthMaps, is_consistent, measure_agreement
from render import Cameras, Gaussians, Sim3

CONFIG = FusionConfig(edge_px=1)
SIZE = 32


def at(points: list[list[float]]) -> Gaussians:
    means = torch.tensor(points)
    count = len(means)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return Gaussians(
        means, quats, torch.full((count, 3), 0.01), torch.ones(count), torch.zeros(count, 1, 3)
    )


def wall(depth: float = 4.0, count: int = 4, step: float = 0.2) -> DepthMaps:
    """Cameras side by side in front of a wall across their view."""
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 0, 3] = -step * torch.arange(count)
    Ks = torch.tensor([[SIZE, 0, SIZE / 2], [0, SIZE, SIZE / 2], [0, 0, 1.0]]).repeat(count, 1, 1)
    cameras = Cameras(viewmats, Ks, SIZE, SIZE)
    maps = torch.full((count, SIZE, SIZE), depth)
    return DepthMaps(cameras, maps, torch.ones_like(maps))


@pytest.mark.parametrize(
    "depth, expected",
    [(4.0, True), (4.15, True), (3.85, True), (3.0, False), (1.0, False), (8.0, True)],
)
def test_what_others_see_through_is_removed(depth: float, expected: bool) -> None:
    """A surface stays, and so does what it hides; what floats in front of it goes."""
    point = at([[0.3, 0.0, depth]])
    assert is_consistent(point, torch.tensor([0]), wall(), CONFIG).item() is expected


def test_the_own_view_is_left_out() -> None:
    maps = wall(count=1)
    found = measure_agreement(at([[0.0, 0.0, 3.0]]), torch.tensor([0]), maps, CONFIG)
    assert float(found.support) == float(found.violation) == 0


def test_views_count_by_their_confidence() -> None:
    """Views that do not know the depth do not remove anything."""
    point, source, maps = at([[0.3, 0.0, 3.0]]), torch.tensor([0]), wall()
    unsure = replace(maps, confidence=0.05 * maps.confidence)
    assert not is_consistent(point, source, maps, CONFIG)
    assert is_consistent(point, source, unsure, CONFIG)


def test_depth_edges_may_be_off_by_some_pixels() -> None:
    """The edge of a near object, which other views see a pixel further, is not removed."""
    maps = wall()
    depth = maps.depth.clone()
    depth[:, :, :16] = 2.0
    # Seen by view 1 at column 17.6, one pixel beyond its edge at column 16.
    point = at([[0.2 + 2 * 0.05, 0.0, 2.0]])
    maps = replace(maps, depth=depth)
    exact, tolerant = (replace(CONFIG, edge_px=px) for px in (0, 2))
    only = replace(maps, confidence=torch.zeros_like(depth).index_fill_(0, torch.tensor([1]), 1.0))
    assert not is_consistent(point, torch.tensor([0]), only, exact)
    assert is_consistent(point, torch.tensor([0]), only, tolerant)


def test_nothing_is_left_close_to_a_camera() -> None:
    """Behind a camera no depth map says anything, but other cameras would be inside."""
    behind = at([[0.0, 0.0, -0.5], [0.0, 0.0, -3.5]])
    kept = is_consistent(behind, torch.tensor([0, 0]), wall(), CONFIG)
    assert kept.tolist() == [False, True]


def test_surfaces_close_to_a_camera_stay_if_others_see_them() -> None:
    """A road below a camera that moves along it, as the cameras behind it see."""
    maps = wall()
    moved = maps.cameras.viewmats.clone()
    # The last camera is ahead of the others, just before the wall.
    moved[3, 0, 3], moved[3, 2, 3] = -0.2, -3.0
    maps = replace(maps, cameras=replace(maps.cameras, viewmats=moved))
    beside_last = at([[0.5, 0.0, 4.0], [0.2, 0.0, 2.0]])
    kept = is_consistent(beside_last, torch.tensor([0, 3]), maps, CONFIG)
    assert kept.tolist() == [True, False]


def test_what_only_one_of_many_views_sees_is_not_left_near_other_cameras() -> None:
    """Far from its own camera and unseen by the others, it would be in the way of those."""
    maps = wall(count=9, step=3.0)
    # The own camera of each is the first; the last camera is 24 units to the right.
    on_wall, near_last, far_away = [1.5, 0.0, 4.0], [24.0, 0.0, -3.5], [12.0, 0.0, 40.0]
    points, source = at([on_wall, near_last, far_away]), torch.zeros(3, dtype=torch.long)
    assert is_consistent(points, source, maps, CONFIG).tolist() == [True, False, True]
    few = wall(count=8, step=3.4)
    assert is_consistent(points, source, few, CONFIG).tolist() == [True, True, True]


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_nothing_depends_on_the_scale_of_the_world(scale: float) -> None:
    points = at([[0.3, 0.0, 4.0], [0.3, 0.0, 3.0], [0.1, 0.1, 5.0], [0.0, 0.0, -0.5]])
    source, maps = torch.zeros(4, dtype=torch.long), wall()
    world = replace(Sim3.identity(), scale=torch.tensor(scale))
    large = DepthMaps(maps.cameras.transformed(world), scale * maps.depth, maps.confidence)
    small = is_consistent(points, source, maps, CONFIG)
    assert torch.equal(is_consistent(points.transformed(world), source, large, CONFIG), small)
    assert small.tolist() == [True, False, True, False]
