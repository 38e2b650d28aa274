"""Decimation: importance, pruning, and merging of Gaussians by moment matching."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.simplification.clusters import cheapest_groups, group_sums
from recon.simplification.config import SimplifyConfig
from recon.spread import spread_cameras
from render import Cameras, Gaussians, RasterizeSettings, measure_contributions
from render.footprints import Footprints
from render.quaternions import rotmats_to_quats

# Fraction of the remaining Gaussians that is removed before the contributions are measured again,
# until this fraction of all Gaussians remains.
REMOVED_PER_ROUND, LAST_FRACTION = 0.15, 0.05
# Number of cameras that the contributions are measured with, if there are more: spread ones, since
# neighbours of a sequence see the same. The order of importance renders them some 20 times.
MAX_CAMERAS, MAX_CAMERAS_ORDER = 64, 32
# Opacity above which absorption is no longer distinguished: -log(1 - opacity) diverges at 1.
MAX_OPACITY = 0.99
# Variance that the rasterizer adds to every Gaussian in the image (px^2).
BLUR_PX2 = RasterizeSettings().eps2d


def contribution(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, " n"]:
    """Sum each Gaussian's weights (alpha times transmittance) over all pixels of all cameras."""
    return measure_contributions(gaussians, cameras).weight_sum


def importance_order(gaussians: Gaussians, cameras: Cameras) -> Int[Tensor, " n"]:
    """Sort Gaussians by importance, so that every prefix is a good smaller scene.

    Backward elimination: the Gaussians that contribute least are removed, and the contributions of
    the others, which they hid or shared pixels with, are measured again.

    Returns:
        Indices of the Gaussians, the most important one first.
    """
    cameras = cameras[spread_cameras(cameras, MAX_CAMERAS_ORDER)]
    remaining = torch.arange(len(gaussians), device=gaussians.device)
    removed: list[Tensor] = []
    while len(remaining) > LAST_FRACTION * len(gaussians):
        order = contribution(gaussians[remaining], cameras).argsort()
        count = math.ceil(REMOVED_PER_ROUND * len(remaining))
        removed.append(remaining[order[:count]])
        remaining = remaining[order[count:].sort().values]
    removed.append(remaining[contribution(gaussians[remaining], cameras).argsort()])
    return torch.cat(removed).flip(0)


def simplify(
    gaussians: Gaussians, cameras: Cameras, config: SimplifyConfig = SimplifyConfig()
) -> Gaussians:
    """Remove Gaussians with little change of the cameras' images.

    Gaussians that none of the cameras sees are pruned; then Gaussians of one surface patch are
    merged, where their colours are similar in larger patches. If clusters of the largest size are
    not enough, more Gaussians remain than `config.fraction` asks for; more than
    `config.max_gaussians` never do: those that contribute least are pruned.
    """
    return simplify_indexed(gaussians, cameras, config)[0]


def simplify_indexed(
    gaussians: Gaussians, cameras: Cameras, config: SimplifyConfig = SimplifyConfig()
) -> tuple[Gaussians, Int[Tensor, " m"]]:
    """Simplify a scene, and say which input Gaussian each output Gaussian stands for.

    Returns:
        The Gaussians that `simplify` returns, and for each of them an index into the input: its
        own, or that of the merged Gaussian that has the greatest weight in the cameras' images.
    """
    index = torch.arange(len(gaussians), device=gaussians.device)
    limit = config.limit(max(cameras.width, cameras.height), len(cameras))
    target = min(round(len(gaussians) * (1 - config.removed(len(cameras)))), limit)
    if target == len(gaussians):
        return gaussians, index
    cameras = cameras[spread_cameras(cameras, MAX_CAMERAS)]
    seen = measure_contributions(gaussians, cameras)
    keep = seen.weight_max >= config.min_weight
    if int(keep.sum()) <= target:
        keep = torch.zeros_like(keep)
        keep[seen.weight_max.topk(target).indices] = True
    gaussians, weight, index = gaussians[keep], seen.weight_sum[keep], index[keep]
    if len(gaussians) <= target:
        return gaussians, index
    footprints = Footprints.of(gaussians.means, cameras)
    groups = cheapest_groups(gaussians, weight, footprints, config.cluster_sizes_px, target)
    simplified, heaviest = _merged(gaussians, footprints.size, groups, weight)
    if len(simplified) > limit:
        best = contribution(simplified, cameras).topk(limit).indices.sort().values
        simplified, heaviest = simplified[best], heaviest[best]
    return simplified, index[heaviest]


def _merged(
    gaussians: Gaussians,
    footprints: Float[Tensor, " n"],
    groups: Int[Tensor, " n"],
    weight: Float[Tensor, " n"],
) -> tuple[Gaussians, Int[Tensor, " m"]]:
    """Merge every group; single Gaussians stay unchanged and come first.

    Returns the Gaussians and the index of each one's member of the greatest weight.
    """
    _, groups, size = torch.unique(groups, return_inverse=True, return_counts=True)
    single = size[groups] == 1
    _, merged_groups = torch.unique(groups[~single], return_inverse=True)
    if len(merged_groups) == 0:
        return gaussians, single.nonzero()[:, 0]
    members, count = gaussians[~single], int(merged_groups.max()) + 1
    made = merge(members, footprints[~single], merged_groups, count)
    index = torch.cat([single.nonzero()[:, 0], _heaviest(weight, groups, ~single)])
    return Gaussians.cat([gaussians[single], made]), index


def _heaviest(
    weight: Float[Tensor, " n"], groups: Int[Tensor, " n"], merged: Bool[Tensor, " n"]
) -> Int[Tensor, " m"]:
    """Find the member with the greatest weight in each group of more than one member."""
    members = merged.nonzero()[:, 0]
    # By weight and then, stably, by group: each group starts with its heaviest member.
    members = members[weight[members].argsort(descending=True, stable=True)]
    ordered = members[groups[members].argsort(stable=True)]
    _, sizes = torch.unique_consecutive(groups[ordered], return_counts=True)
    return ordered[sizes.cumsum(0) - sizes]


def merge(
    gaussians: Gaussians,
    footprints: Float[Tensor, " n"],
    groups: Int[Tensor, " n"],
    count: int,
) -> Gaussians:
    """Merge each group into one Gaussian by matching moments.

    Mean, covariance and colour are those of the mixture, each member weighted by what it absorbs:
    -log(1 - opacity) times its area in the image. The group absorbs as much as its members
    together, so two Gaussians at one position transmit what they did one behind the other.

    Args:
        gaussians: Gaussians to merge.
        footprints: Size of a pixel at each Gaussian (world units), which the rasterizer's blur is
            a multiple of.
        groups: Index of each Gaussian's group.
        count: Number of groups, none of them empty.
    """
    density = -torch.log1p(-gaussians.opacities.clamp(1e-6, MAX_OPACITY))
    weight = density * _area(gaussians.scales, footprints)
    total = group_sums(weight, groups, count)
    fraction = weight / total[groups]
    mean = group_sums(fraction[:, None] * gaussians.means, groups, count)
    offset = gaussians.means - mean[groups]
    spread = gaussians.covars() + offset[:, :, None] * offset[:, None, :]
    covars = group_sums(fraction[:, None, None] * spread, groups, count)
    quats, scales = _axes(covars)
    area = _area(scales, group_sums(fraction * footprints, groups, count))
    opacity = -torch.expm1(-total / area)
    sh = group_sums(fraction[:, None, None] * gaussians.sh, groups, count)
    return Gaussians(mean, quats, scales, opacity.clamp_max(MAX_OPACITY), sh)


def _area(scales: Float[Tensor, "n 3"], footprints: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Compute the rendered area of the disc of the two longer axes, up to a constant factor."""
    variances = scales.sort(-1).values.square() + BLUR_PX2 * footprints.square()[:, None]
    return (variances[:, 1] * variances[:, 2]).sqrt().clamp_min(1e-30)


def _axes(covars: Float[Tensor, "m 3 3"]) -> tuple[Float[Tensor, "m 4"], Float[Tensor, "m 3"]]:
    """Decompose covariances into quaternions and scales."""
    # Relative to their own size: squares of small scales would vanish in float32.
    size = covars.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-30)
    values, vectors = torch.linalg.eigh(covars / size[:, None, None])
    scales = (values.clamp_min(1e-8) * size[:, None]).sqrt()
    # Eigenvectors may form a mirrored frame.
    mirrored = torch.linalg.det(vectors) < 0
    vectors = torch.where(mirrored[:, None, None], -vectors, vectors)
    return rotmats_to_quats(vectors), scales
