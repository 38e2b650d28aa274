"""Parts of the plane sweep, each against a known result."""

import math

import pytest
import torch
from helpers import look_at_cameras

from recon.model.mvs.consistency import DepthMaps, check_consistency, consistency_costs, floaters
from recon.model.mvs.correlation import box_mean, zncc
from recon.model.mvs.cost_volume import UNSEEN_COST, cost_volume
from recon.model.mvs.depth_planes import uniform_motion_planes
from recon.model.mvs.depth_range import ranges_of_points
from recon.model.mvs.fill import fill_disparity
from recon.model.mvs.sgm import aggregate, best_plane
from recon.model.mvs.source_views import nearest_views, select_sources
from recon.model.mvs.warp import Warp, inside, sample
from render import Cameras


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A smooth random image [3, h, w]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 3, width // 3, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)


def test_warp_agrees_with_projection() -> None:
    cameras = look_at_cameras(2)
    depth = 3.0 + torch.rand(cameras.height, cameras.width, dtype=torch.float64)
    rays_o, rays_d = cameras[[0]].rays()
    points = (rays_o + depth[None, ..., None] * rays_d)[0].reshape(-1, 3)
    expected, expected_depth = cameras[[1]].project(points)
    pixels, ratio = Warp.between(cameras, 0, 1).pixels(1 / depth)
    assert torch.allclose(pixels.reshape(-1, 2), expected[0])
    assert torch.allclose((ratio * depth).reshape(-1), expected_depth[0])


def test_sample_reads_pixel_centres() -> None:
    image = texture(8, 12)[None]
    y, x = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(12) + 0.5, indexing="ij")
    assert torch.allclose(sample(image, torch.stack([x, y], -1)[None]), image, atol=1e-5)


def test_inside_needs_the_front() -> None:
    pixels = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])
    assert inside(pixels, torch.tensor([1.0, -1.0, 1.0]), 4, 4).tolist() == [True, False, False]


@pytest.mark.parametrize("radius", [1, 3])
def test_box_mean_is_the_mean(radius: int) -> None:
    image = torch.rand(2, 1, 12, 15)
    got = box_mean(image, radius)
    window = image[1, 0, 6 - radius : 7 + radius, 7 - radius : 8 + radius]
    assert float(got[1, 0, 6, 7]) == pytest.approx(float(window.mean()), rel=1e-5)
    # The border repeats at the corner.
    assert torch.allclose(box_mean(torch.full((1, 1, 5, 5), 0.3), radius), torch.tensor(0.3))


def test_zncc_ignores_brightness_and_contrast() -> None:
    a, b = texture(20, 20)[:1][None], texture(20, 20, seed=1)[:1][None]
    assert float(zncc(a, 0.5 * a + 0.3, 3).min()) > 0.98
    assert float(zncc(a, 1 - a, 3).max()) < -0.98
    assert float(zncc(a, b, 3).abs().mean()) < 0.5
    flat = torch.full_like(a, 0.5)
    assert float(zncc(a, flat, 3).abs().max()) < 1e-3


def test_cost_volume_is_lowest_at_the_true_plane() -> None:
    """A textured plane at depth 4 seen by two parallel cameras, 0.4 apart."""
    cameras = look_at_cameras(2, 60, 40, torch.float32)
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 0, 3] = -0.4
    K = torch.tensor([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]]).expand(2, 3, 3)
    cameras = type(cameras)(viewmats, K, 60, 40)
    shift = 5  # 50 px * 0.4 / 4
    wide = texture(40, 60 + shift)
    images = torch.stack([wide[..., :60], wide[..., shift:]])
    planes = torch.linspace(0.05, 0.5, 19)
    costs = cost_volume(images, cameras, 0, [1], planes, (2,))
    assert float(planes[costs[:, 10:30, 15:45].mean((1, 2)).argmin()]) == pytest.approx(0.25)
    assert float(costs[-1, 20, 0]) == pytest.approx(UNSEEN_COST)


def test_planes_move_pixels_by_equal_steps() -> None:
    """Side by side: uniform in disparity, up to where the views share nothing."""
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 0, 3] = -0.5
    cameras = Cameras.from_focal(viewmats, 32.0, 32, 32)
    planes = uniform_motion_planes(cameras, 0, [1], 40)
    steps = planes.diff()
    assert float(planes[0]) > 0
    assert torch.allclose(steps, steps.mean().expand_as(steps), rtol=0.15)
    large = uniform_motion_planes(cameras.resized(256, 256), 0, [1], 40)
    assert torch.allclose(large, planes, rtol=0.02)


def test_aggregation_removes_noise_and_keeps_the_step() -> None:
    generator = torch.Generator().manual_seed(0)
    planes, height, width = 16, 24, 30
    exact = torch.full((height, width), 4)
    exact[:, 15:] = 11
    levels = torch.arange(planes)[:, None, None]
    clean = 0.2 * (levels != exact).float()
    noisy = clean + 0.3 * torch.rand(planes, height, width, generator=generator)
    guide = torch.zeros(3, height, width)
    guide[..., 15:] = 1
    before = ((noisy.argmin(0) - exact).abs() <= 1).float().mean()
    found = best_plane(aggregate(noisy, guide, 0.03, 0.3)).round()
    after = ((found - exact).abs() <= 1).float().mean()
    assert before < 0.8 and after > 0.97


def test_best_plane_finds_the_vertex_of_a_parabola() -> None:
    position = torch.tensor([3.3, 5.0, 0.0, 7.0])
    levels = torch.arange(8.0)[:, None, None]
    costs = (levels - position[None, None]) ** 2
    assert torch.allclose(best_plane(costs)[0], position, atol=1e-5)


def test_fill_follows_neighbours_of_similar_colour() -> None:
    guide = torch.zeros(1, 3, 20, 30)
    guide[..., 15:] = 1
    disparity = torch.full((1, 20, 30), 0.5)
    confidence = torch.zeros(1, 20, 30)
    disparity[..., :5], confidence[..., :5] = 0.2, 1
    disparity[..., -5:], confidence[..., -5:] = 0.9, 1
    filled = fill_disparity(disparity, confidence, guide, 0.3)
    assert torch.allclose(filled[..., 5:14], torch.tensor(0.2), atol=0.03)
    assert torch.allclose(filled[..., 16:25], torch.tensor(0.9), atol=0.03)


def plane_maps(depths: list[float], size: int = 24) -> DepthMaps:
    """Parallel cameras side by side, each with a constant depth map."""
    count = len(depths)
    cameras = look_at_cameras(count, size, size, torch.float32)
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 0, 3] = 0.1 * torch.arange(count)
    cameras = type(cameras)(viewmats, cameras.Ks, size, size)
    disparity = (1 / torch.tensor(depths))[:, None, None].expand(count, size, size).clone()
    colors = torch.zeros(count, 3, size, size)
    return DepthMaps(cameras, disparity, torch.full((count, 1, 1), 0.01), colors)


def test_equal_depths_confirm_and_nearer_ones_are_refuted() -> None:
    confirmed, refuted = check_consistency(plane_maps([4.0, 4.0]), [[1], [0]])
    assert confirmed[:, :, 4:-4].all() and not refuted.any()
    confirmed, refuted = check_consistency(plane_maps([2.0, 4.0]), [[1], [0]])
    assert not confirmed.any() and refuted[0, :, 4:-4].all() and not refuted[1].any()


def test_other_colours_do_not_confirm() -> None:
    maps = plane_maps([4.0, 4.0])
    maps.colors[1] = 1.0
    assert not check_consistency(maps, [[1], [0]])[0].any()


def test_floaters_need_two_views_that_see_through() -> None:
    three = plane_maps([2.0, 4.0, 4.0])
    confirmed, _ = check_consistency(three, [[1, 2], [0, 2], [0, 1]])
    found = floaters(three, confirmed)
    assert found[0, :, 8:-8].all() and not found[1:].any()
    two = plane_maps([2.0, 4.0])
    assert not floaters(two, check_consistency(two, [[1], [0]])[0]).any()


def test_consistency_costs_prefer_the_confirmed_plane() -> None:
    maps = plane_maps([4.0, 4.0])
    confirmed = torch.ones(2, 24, 24, dtype=torch.bool)
    costs = consistency_costs(maps, confirmed, 0, torch.tensor([0.1, 0.25, 0.5]))[:, 12, 12]
    assert costs.tolist() == [0, -1, 1]


def test_sources_prefer_overlap_and_parallax() -> None:
    cameras = look_at_cameras(5, dtype=torch.float32)
    chosen = select_sources(cameras, torch.full((5,), 4.0), 2)
    assert set(chosen[2]) == {1, 3} and chosen[0][0] == 1
    assert all(v not in row for v, row in enumerate(nearest_views(cameras, 3)))
    assert math.prod(len(row) for row in nearest_views(cameras, 9)) == 4**5


def test_sources_of_cameras_in_a_row_ahead_are_near() -> None:
    """The point straight ahead has no angle; the others decide."""
    cameras = in_a_row(7)
    for view, chosen in enumerate(select_sources(cameras, torch.full((7,), 4.0), 4)):
        steps = [abs(view - s) for s in chosen]
        assert sum(steps) <= 14


def test_range_covers_what_other_views_found() -> None:
    """The first camera found few depths itself; the last one found some far ahead of both."""
    cameras = in_a_row(2)
    near, far = torch.full((50,), 2.0), torch.full((50,), 30.0)
    points = torch.zeros(100, 3)
    points[:, 2] = torch.cat([near, far])
    shared = [(0.01, 10.0), (0.01, 10.0)]
    own = [near, torch.cat([near, far]) - 0.8]
    found = ranges_of_points(cameras, own, points, shared, 8)
    assert float(found.near[0]) < 2 and float(found.far[0]) > 30 and float(found.median[0]) == 2
    empty = torch.zeros(0)
    alone = ranges_of_points(cameras, [near, empty], points[:0], shared, 8)
    assert alone.near[0] == alone.near[1] and alone.far[0] == alone.far[1]
    nothing = ranges_of_points(cameras, [empty, empty], points[:0], shared, 8)
    assert bool((nothing.near > 0).all()) and bool((nothing.near < nothing.far).all())


def in_a_row(count: int) -> Cameras:
    """Cameras along z, looking ahead, 0.8 apart; the last one is in front."""
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 2, 3] = -0.8 * torch.arange(count)
    return Cameras.from_focal(viewmats, 32.0, 32, 32)
