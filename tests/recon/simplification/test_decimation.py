"""Simplification: few visible changes from fewer Gaussians."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import psnr, random_gaussians, sample_views, swept

from recon.cli.main import main
from recon.errors import ConfigError
from recon.formats import load_gaussians
from recon.simplification.clusters import cheapest_groups, clusters
from recon.simplification.config import SimplifyConfig
from recon.simplification.decimation import merge, simplify, simplify_indexed
from recon.types import Views
from render import Gaussians, rasterize
from render.footprints import Footprints


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    return sample_views(sample, 128)


@pytest.fixture(scope="module")
def predicted(views: Views) -> Gaussians:
    return swept(views[:2])


def shown(gaussians: Gaussians, views: Views) -> torch.Tensor:
    return rasterize(gaussians, views.cameras[[2]]).rgb[0].clamp(0, 1)


@pytest.mark.parametrize("fraction", [0.3, 0.5])
def test_images_change_little(views: Views, predicted: Gaussians, fraction: float) -> None:
    cameras = views.cameras[[0, 1]]
    left = simplify(predicted, cameras, SimplifyConfig(fraction=fraction))
    left.validate()
    assert len(left) == round(len(predicted) * (1 - fraction))
    before, after = (psnr(shown(g, views), views.images[2]) for g in (predicted, left))
    assert after > before - 0.2
    order = torch.randperm(len(predicted), generator=torch.Generator().manual_seed(0))
    random = predicted[order[: len(left)]]
    kept, lost = (psnr(shown(g, views), shown(predicted, views)) for g in (left, random))
    assert kept > lost + 1


def test_large_clusters_are_split_to_meet_the_count(views: Views, predicted: Gaussians) -> None:
    config = SimplifyConfig(fraction=0.95, cluster_sizes_px=(16.0,))
    left = simplify(predicted, views.cameras[[0, 1]], config)
    left.validate()
    assert len(left) == round(0.05 * len(predicted))


@pytest.mark.parametrize("limit", [1, 50, 700])
def test_the_maximum_number_is_met(views: Views, predicted: Gaussians, limit: int) -> None:
    """Even if clusters are too small to merge that many."""
    config = SimplifyConfig(0.1, max_gaussians=limit, cluster_sizes_px=(2.0,))
    left, index = simplify_indexed(predicted, views.cameras[[0, 1]], config)
    left.validate()
    assert len(left) == len(index) == limit
    unlimited = config.without_optimisation()
    assert len(simplify(predicted, views.cameras[[0, 1]], unlimited)) == limit
    free = SimplifyConfig(0.9).without_optimisation()
    assert simplify(predicted, views.cameras[[0, 1]], free) is predicted


def test_unseen_gaussians_are_pruned_first(views: Views, predicted: Gaussians) -> None:
    cameras = views.cameras[[0, 1]]
    behind = cameras.centers[0] - 3 * cameras.viewmats[0, 2, :3]
    lost = predicted[torch.arange(100)]
    lost = Gaussians(behind.expand(100, 3), lost.quats, lost.scales, lost.opacities, lost.sh)
    both = Gaussians.cat([predicted, lost])
    left = simplify(both, cameras, SimplifyConfig(fraction=0.2))
    assert len(left) > 0.75 * len(both)
    assert float((left.means - behind).norm(dim=-1).min()) > 1e-3
    assert psnr(shown(left, views), shown(predicted, views)) > 30


def test_similar_colors_are_merged_first(views: Views, predicted: Gaussians) -> None:
    """Half of the image is plain and the other half noise: most are merged in the plain half."""
    first = predicted[torch.arange(128 * 96)]
    column = torch.arange(len(first)) % 128
    noise = torch.rand(len(first), 1, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    sh = torch.where((column < 64)[:, None, None], torch.zeros(()), 2 * noise)
    made = Gaussians(first.means, first.quats, first.scales, first.opacities, sh)
    left = simplify(made, views.cameras[[0]], SimplifyConfig(fraction=0.3))
    plain = float((left.sh[:, 0].abs().amax(-1) < 1e-4).float().mean())
    assert abs(len(left) / len(made) - 0.7) < 0.02 and plain < 0.4


def test_plain_surfaces_are_merged_in_larger_clusters(views: Views, predicted: Gaussians) -> None:
    """Of a plain half and one of noise, the plain one is merged in the largest clusters."""
    first = predicted[torch.arange(128 * 96)]
    column = torch.arange(len(first)) % 128
    noise = torch.rand(len(first), 1, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    sh = torch.where((column < 64)[:, None, None], torch.zeros(()), 2 * noise)
    made = Gaussians(first.means, first.quats, first.scales, first.opacities, sh)
    left, index = simplify_indexed(made, views.cameras[[0]], SimplifyConfig(fraction=0.8))
    is_noise = column[index] >= 64
    assert len(left) == round(0.2 * len(made))
    # 4 x 4 px each, which suffices; the noise is merged in 2 x 2 px, some of it not at all.
    assert int((~is_noise).sum()) < 0.1 * len(made) / 2
    assert int(is_noise.sum()) > 0.25 * len(made) / 2


@pytest.mark.parametrize("count", [40, 700, 2000, 4000])
def test_groups_are_as_many_as_wanted(views: Views, predicted: Gaussians, count: int) -> None:
    """Whatever the colours: of one colour, all groups of a size cost the same."""
    footprints = Footprints.of(predicted.means, views.cameras[[0, 1]])
    weight = torch.ones(len(predicted))
    plain = replace(predicted, sh=torch.zeros_like(predicted.sh))
    for gaussians in (predicted, plain):
        sizes = (2.0, 4.0, 8.0, 16.0, 128.0)
        groups = cheapest_groups(gaussians, weight, footprints, sizes, count)
        assert groups.unique().numel() == int(groups.max()) + 1 == count


def test_groups_lie_within_clusters(views: Views, predicted: Gaussians) -> None:
    footprints = Footprints.of(predicted.means, views.cameras[[0, 1]])
    groups = cheapest_groups(
        predicted, torch.ones(len(predicted)), footprints, (2.0, 4.0), len(predicted) // 4
    )
    large = clusters(footprints, 4.0)
    pairs = torch.stack([groups, large]).unique(dim=1)
    assert pairs.shape[1] == int(groups.max()) + 1


def test_sizes_of_clusters_are_multiples() -> None:
    for sizes in ((2.0, 3.0), (4.0, 2.0), (2.0, 2.0)):
        with pytest.raises(ConfigError, match="multiples, each of the one before"):
            SimplifyConfig(cluster_sizes_px=sizes)


def test_merging_matches_moments() -> None:
    """Two Gaussians at one position are merged into one of the same transmittance; of two apart,
    the mean is between them."""
    one = random_gaussians(1, torch.Generator().manual_seed(2)).to(torch.float32)
    pair = Gaussians.cat([one, one])
    found = merge(pair, torch.zeros(2), torch.zeros(2, dtype=torch.long), 1)
    assert torch.allclose(found.means, one.means, atol=1e-6)
    assert torch.allclose(found.covars(), one.covars(), rtol=1e-3, atol=1e-6)
    assert torch.allclose(1 - found.opacities, (1 - one.opacities).square(), atol=1e-4)
    far = Gaussians(one.means + 0.5, one.quats, one.scales, one.opacities, one.sh + 0.2)
    groups = torch.tensor([0, 1, 0])
    found = merge(Gaussians.cat([one, one, far]), torch.zeros(3), groups, 2)
    assert torch.allclose(found.means[0], one.means[0] + 0.25, atol=1e-5)
    assert torch.allclose(found.sh[0], one.sh[0] + 0.1, atol=1e-5)
    assert torch.allclose(found.covars()[1], one.covars()[0], rtol=1e-3, atol=1e-6)
    assert float(found.scales[0].max()) > float(one.scales.max())


def test_clusters_are_blocks_of_pixels(views: Views) -> None:
    """Clusters of a wall are 2 x 2 pixels; those of a second wall behind it are different ones."""
    camera = views.cameras[[0]]
    rays_o, rays_d = camera.rays()
    walls = [(rays_o + depth * rays_d)[0].reshape(-1, 3) for depth in (2.0, 3.0)]
    found = clusters(Footprints.of(torch.cat(walls), camera), 2.0).view(2, *rays_d.shape[1:3])
    assert torch.equal(found[0, ::2, ::2], found[0, 1::2, 1::2])
    size = found[0].numel()
    assert found[0].unique().numel() == size // 4 and found.unique().numel() == size // 2


def test_prune_option_of_the_command_line(sample: Path, tmp_path: Path) -> None:
    options = ["--resolution", "64", "--max-views", "2", "--quiet", "--refine", "2"]
    counts = []
    for fraction in ("0", "0.5"):
        main([str(sample), "-o", str(tmp_path / "scene.ply"), *options, "--prune", fraction])
        counts.append(len(load_gaussians(tmp_path / "scene.ply")))
    assert counts[1] <= 0.55 * counts[0]


def test_bad_fraction_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fraction must be in \[0, 1\), got 1.0"):
        SimplifyConfig(fraction=1.0)


def test_from_five_views_on_the_maximum_alone_decides() -> None:
    assert [SimplifyConfig().removed(count) for count in (2, 4, 5, 50)] == [0.5, 0.5, 0.0, 0.0]
    assert SimplifyConfig(fraction=0.25).removed(50) == 0.25


def test_larger_images_are_worth_more_gaussians() -> None:
    limits = [SimplifyConfig().limit(side) for side in (256, 512, 700, 2048, 4096)]
    assert limits[0] == limits[1] == 120_000 < limits[2] < limits[3] == limits[4] == 1_000_000
    assert SimplifyConfig().limit(512, 4) == 400_000 and SimplifyConfig().limit(512, 5) == 120_000
    assert SimplifyConfig(max_gaussians=7).limit(4096, 4) == 7
