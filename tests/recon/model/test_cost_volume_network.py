"""Parts of the network `cost-volume`: matching, depth distributions, upsampling, stages."""

from dataclasses import replace

import pytest
import torch
from network_helpers import random_batch, sample_batch, sample_depth

from recon.model.inference import run_network
from recon.model.mvs.correlation import group_product
from recon.model.mvs.source_views import batch_sources
from recon.model.mvs.warp import Warp, source_pixels
from recon.model.networks.cost_volume import SIZES, CostVolumeConfig, CostVolumeNetwork
from recon.model.networks.cost_volume.decoder import NEIGHBOURS, SCALE, convex_upsample
from recon.model.networks.cost_volume.depth_distribution import DepthDistribution, DepthHypotheses
from recon.model.networks.cost_volume.matching import NUM_PHOTOMETRIC_CHANNELS, RADII, FeatureLevel

VIEWS = [2, 4, 6]


def level_of(views: list[int], side: int = 64) -> FeatureLevel:
    batch = sample_batch(views, side, side)
    cameras = batch.cameras.flatten()
    sources = batch_sources(batch.cameras, batch.middle_depth, 4)
    # Colours as feature maps.
    images = batch.images[0]
    feature_maps = torch.cat([images, images.mean(1, keepdim=True)], 1) - 0.5
    return FeatureLevel(images, feature_maps, cameras, sources).normalised(2)


def test_group_product_is_a_sum_of_products(generator: torch.Generator) -> None:
    sizes = [(2, 3, 4, 5, 6), (2, 3, 4, 7, 5, 6)]
    a, b = (
        torch.randn(*s, dtype=torch.float64, generator=generator).requires_grad_() for s in sizes
    )
    product = group_product(a, b)
    assert torch.allclose(product, (a[:, :, :, None] * b).sum(2))
    assert torch.autograd.gradcheck(group_product, (a[:1, :, :, :2, :2], b[:1, ..., :2, :2]))


def test_pairs_of_warps_are_the_warps() -> None:
    cameras = sample_batch(VIEWS, 24, 16).cameras.flatten()
    disparity = torch.tensor([0.2, 0.4]).reshape(1, 2, 1, 1).expand(2, -1, 16, 24)
    reference, source = torch.tensor([0, 2]), torch.tensor([1, 0])
    pixels, seen = source_pixels(cameras, reference, source, disparity)
    for pair in range(2):
        warp = Warp.between(cameras, int(reference[pair]), int(source[pair]))
        alone, _ = warp.pixels(disparity[pair])
        assert torch.allclose(pixels[pair], alone, atol=1e-3)
    assert bool(seen.any()) and not bool(seen.all())


def test_matching_is_best_at_the_true_depth() -> None:
    """ZNCC, feature correlation and colour all prefer the surface to planes around it."""
    level = level_of(VIEWS)
    exact = 1 / sample_depth(VIEWS)[0, :1]
    steps = torch.tensor([-0.06, -0.03, 0.0, 0.03, 0.06])[:, None, None]
    disparity = (exact + steps)[None]
    matching = level.match(torch.tensor([0]), disparity, 2)
    assert matching.shape == (1, 2 + NUM_PHOTOMETRIC_CHANNELS, 5, 64, 64)
    seen = (matching[0, -1] > 0.99).all(0)
    assert float(seen.float().mean()) > 0.3
    means = matching[0][:, :, seen].mean(-1)
    for channel in (2, 3):  # mean ZNCC of each radius
        assert int(means[channel].argmax()) == 2
    assert int(means[4].argmin()) == 2  # difference of colours
    assert int(means[5].argmax()) == 2  # best ZNCC
    assert bool((matching[0, 5:7] >= matching[0, 2:4] - 1e-4)[:, :, seen].all())


def test_matching_does_not_depend_on_the_order_or_number_of_source_views() -> None:
    level = level_of(VIEWS, 32)
    views, disparity = torch.tensor([1]), torch.full((1, 3, 32, 32), 0.3)
    once = level.match(views, disparity, 2)
    reversed_order = replace(level, sources=level.sources.flip(1)).match(views, disparity, 2)
    assert torch.allclose(once, reversed_order, atol=1e-5)
    doubled = replace(level, sources=level.sources.repeat(1, 2)).match(views, disparity, 2)
    assert torch.allclose(once, doubled, atol=1e-5)
    alone = replace(level, sources=level.sources[:, :0]).match(views, disparity, 2)
    assert bool((alone == 0).all()) and alone.shape[1] == 2 + 2 * len(RADII) + 2


def test_sources_are_of_the_same_scene(generator: torch.Generator) -> None:
    batch = random_batch(generator, 2, 6, 32, 24)
    few = batch_sources(batch.cameras[:3], batch.middle_depth[:, :3], 4)
    assert few.tolist() == [[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]]
    many = batch_sources(batch.cameras, batch.middle_depth, 3)
    assert many.shape == (12, 3)
    for view, row in enumerate(many.tolist()):
        assert view not in row and len(set(row)) == 3
        assert all(source // 6 == view // 6 for source in row)


def test_distribution_of_a_certain_and_an_uncertain_pixel() -> None:
    fraction = torch.linspace(0, 1, 11).reshape(1, 11, 1, 1)
    planes = DepthHypotheses(fraction, torch.tensor([0.1]), torch.tensor([0.5]))
    scores = torch.zeros(1, 11, 1, 2)
    scores[0, 3, 0, 0] = 50
    distribution = DepthDistribution.from_scores(scores, planes)
    assert distribution.fraction[0, 0].tolist() == pytest.approx([0.3, 0.5], abs=1e-4)
    assert float(distribution.confidence[0, 0, 0]) == pytest.approx(1, abs=1e-4)
    assert float(distribution.confidence[0, 0, 1]) == pytest.approx(3 / 11, abs=1e-4)
    assert float(distribution.spread[0, 0, 0]) < 1e-3 < 0.3 < float(distribution.spread[0, 0, 1])
    assert planes.disparity[0, :, 0, 0].tolist() == pytest.approx(
        torch.linspace(0.1, 0.5, 11).tolist()
    )


def test_upsampling_mixes_neighbours(generator: torch.Generator) -> None:
    values = torch.rand(2, 5, 7, generator=generator)
    mask = torch.zeros(2, NEIGHBOURS * SCALE**2, 5, 7)
    padded = torch.nn.functional.pad(values[:, None], (1, 1, 1, 1), mode="replicate")
    mean = torch.nn.functional.avg_pool2d(padded, 3, 1)[:, 0]
    even = convex_upsample(values, mask)
    assert torch.allclose(even, mean.repeat_interleave(2, 1).repeat_interleave(2, 2), atol=1e-5)
    # All weight on the pixel itself: every new pixel has its value.
    mask.unflatten(1, (NEIGHBOURS, SCALE**2))[:, 4] = 50
    same = convex_upsample(values, mask)
    assert torch.allclose(same, values.repeat_interleave(2, 1).repeat_interleave(2, 2), atol=1e-5)


def test_other_numbers_of_planes_and_sources_take_the_same_weights() -> None:
    tiny = SIZES["tiny"]
    weights = CostVolumeNetwork(tiny).state_dict()
    batch = sample_batch([1, 2, 3, 4, 5], 32, 32)
    for planes, fine, sources in ((16, 8, 4), (32, 4, 2), (8, 16, 1)):
        config = replace(tiny, planes=planes, fine_planes=fine, sources=sources)
        network = CostVolumeNetwork(config).eval()
        network.load_state_dict(weights)
        with torch.no_grad():
            assert bool(torch.isfinite(run_network(network, batch).depth).all())
    with pytest.raises(ValueError, match="multiples of 4"):
        CostVolumeConfig(planes=30)


def test_training_and_inference_give_the_same() -> None:
    """Views go one by one without gradients, all at once with them."""
    torch.manual_seed(0)
    network, batch = CostVolumeNetwork(SIZES["tiny"]), sample_batch(VIEWS, 32, 32)
    with torch.no_grad():
        alone = run_network(network, batch)
    together = run_network(network, batch)
    assert torch.allclose(alone.depth, together.depth, rtol=1e-4)
    assert len(alone.intermediate_depths) == 3
    for depth in alone.intermediate_depths:
        assert depth.shape == alone.depth.shape
        assert bool((depth >= 0.99 * batch.near[0, 0]).all())
        assert bool((depth <= 1.01 * batch.far[0, 0]).all())


def test_one_view_has_depth_from_context_alone() -> None:
    torch.manual_seed(0)
    network = CostVolumeNetwork(SIZES["tiny"]).eval()
    batch = sample_batch(VIEWS, 32, 32)[[0]]
    with torch.no_grad():
        depth = run_network(network, batch).depth
    assert bool(torch.isfinite(depth).all()) and float(depth.std()) > 0


def test_large_images_are_processed_coarse_to_fine(generator: torch.Generator) -> None:
    """Every level's depth is returned at full size, to be supervised."""
    network = CostVolumeNetwork(SIZES["tiny"]).eval()
    for width, height in ((64, 48), (58, 43)):
        batch, depths = random_batch(generator, 1, 2, height, width), []
        for px, levels in ((64, 3), (32, 5), (16, 7)):
            network.config = replace(network.config, direct_px=px)
            with torch.no_grad():
                output = run_network(network, batch)
            assert len(output.intermediate_depths) == levels
            assert all(depth.shape == output.depth.shape for depth in output.intermediate_depths)
            assert output.gaussians.means.shape[1] == 2 * width * height
            depths.append(output.depth)
        assert not torch.equal(depths[0], depths[1])
