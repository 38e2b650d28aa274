"""Simplification: Gaussians that no camera sees are pruned, similar neighbours are merged."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.simplify.config import SimplifyConfig
from recon.simplify.merge import clusters, group_sums, merge
from render import Cameras, Gaussians, measure_contributions
from render.footprints import Footprints
from render.sh import C0


def simplify(
    gaussians: Gaussians, cameras: Cameras, config: SimplifyConfig = SimplifyConfig()
) -> Gaussians:
    """Remove Gaussians with little change of the cameras' images.

    Gaussians that none of the cameras sees are pruned; then Gaussians of one surface patch are
    merged, those of similar colours first. If clusters of the largest size are not enough, more
    Gaussians remain than were asked for.
    """
    return simplify_indexed(gaussians, cameras, config)[0]


def simplify_indexed(
    gaussians: Gaussians, cameras: Cameras, config: SimplifyConfig = SimplifyConfig()
) -> tuple[Gaussians, Int[Tensor, "m"]]:
    """Simplify a scene, and say which input Gaussian each output Gaussian stands for.

    Returns:
        The Gaussians that `simplify` returns, and for each of them an index into the input: its
        own, or that of the merged Gaussian that has the greatest weight in the cameras' images.
    """
    index = torch.arange(len(gaussians), device=gaussians.device)
    if config.fraction == 0:
        return gaussians, index
    seen = measure_contributions(gaussians, cameras)
    target = round(len(gaussians) * (1 - config.fraction))
    keep = seen.weight_max >= config.min_weight
    if int(keep.sum()) <= target:
        keep = torch.zeros_like(keep)
        keep[seen.weight_max.topk(target).indices] = True
    gaussians, weight, index = gaussians[keep], seen.weight_sum[keep], index[keep]
    if len(gaussians) <= target:
        return gaussians, index
    footprints = Footprints.of(gaussians.means, cameras)
    for size_px in config.cluster_sizes_px:
        groups = clusters(footprints, size_px)
        if int(groups.max()) < target:
            break
    groups = _cheapest(gaussians, weight, groups, len(gaussians) - target)
    simplified, heaviest = _merged(gaussians, footprints.size, groups, weight)
    return simplified, index[heaviest]


def _cheapest(
    gaussians: Gaussians, weight: Float[Tensor, "n"], groups: Int[Tensor, "n"], excess: int
) -> Int[Tensor, "n"]:
    """Split up the groups that are not needed to remove `excess` Gaussians.

    The cost of a group is the squared colour error of its members' pixels, per Gaussian that
    merging it removes.
    """
    count = int(groups.max()) + 1
    color = C0 * gaussians.sh[:, 0]
    total = group_sums(weight, groups, count).clamp_min(1e-12)
    fraction = (weight / total[groups])[:, None]
    mean = group_sums(fraction * color, groups, count)
    error = weight * (color - mean[groups]).square().sum(-1)
    removed = torch.bincount(groups, minlength=count) - 1
    cost = group_sums(error, groups, count) / removed.clamp_min(1)
    order = torch.where(removed > 0, cost, torch.inf).argsort()
    needed = removed[order].cumsum(0) - removed[order] < excess
    kept = torch.zeros(count, dtype=torch.bool, device=groups.device)
    kept[order[needed]] = True
    kept &= removed > 0
    single = ~kept[groups]
    # Of the last group no more members than are needed, so that the count is met exactly.
    surplus = int(removed[kept].sum()) - excess
    if surplus > 0:
        last = order[needed][-1]
        single[(groups == last).nonzero()[:surplus, 0]] = True
    single_ids = count + torch.arange(int(single.sum()), device=groups.device)
    return groups.masked_scatter(single, single_ids)


def _merged(
    gaussians: Gaussians,
    footprints: Float[Tensor, "n"],
    groups: Int[Tensor, "n"],
    weight: Float[Tensor, "n"],
) -> tuple[Gaussians, Int[Tensor, "m"]]:
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
    weight: Float[Tensor, "n"], groups: Int[Tensor, "n"], merged: Bool[Tensor, "n"]
) -> Int[Tensor, "m"]:
    """Find the member of the greatest weight of each group of more than one member."""
    members = merged.nonzero()[:, 0]
    # By weight and then, stably, by group: each group starts with its heaviest member.
    members = members[weight[members].argsort(descending=True, stable=True)]
    ordered = members[groups[members].argsort(stable=True)]
    _, sizes = torch.unique_consecutive(groups[ordered], return_counts=True)
    return ordered[sizes.cumsum(0) - sizes]
