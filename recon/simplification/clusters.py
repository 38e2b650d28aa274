"""Choice of the Gaussians to merge: nested clusters of the image, pruned to the cheapest tree."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Gaussians
from render.footprints import Footprints
from render.sh import C0

# Depth of a cluster in units of its width: parts of deeper ones shift against each other when
# seen from elsewhere.
DEPTH_RATIO = 1.0
# Difference of colour (of white) that a pixel of a cluster's width stands for besides what its
# Gaussians show, which are smoother than the photos: plain surfaces are not merged without limit.
UNSEEN_DETAIL = 0.01
# Halvings of the interval of the price of a Gaussian.
MAX_BISECTIONS = 24


def clusters(footprints: Footprints, size_px: float) -> Int[Tensor, " n"]:
    """Assign points to clusters, numbered from 0 without gaps.

    A cluster is a square of `size_px` pixels of the camera that sees its points at the highest
    resolution, DEPTH_RATIO times as deep: the Gaussians of all views of one surface patch meet in
    one cluster, and blocks of pixels stay whole. A point that no camera sees is a cluster of its
    own. Clusters of a multiple of the size are unions of them.
    """
    seen = footprints.size > 0
    square = (footprints.pixels / size_px).floor().long()
    focal = footprints.depth / footprints.size.clamp_min(1e-30)
    # Logarithmic: a layer is as thick in pixels at every depth.
    layer = footprints.depth.clamp_min(1e-30).log() * focal / (DEPTH_RATIO * size_px)
    unseen_index = torch.arange(len(seen), device=seen.device)
    columns = [
        torch.where(seen, -1, unseen_index), footprints.camera, *square.T, layer.floor().long()
    ]  # fmt: skip
    return _row_ids(columns)


def _row_ids(columns: list[Int[Tensor, " n"]]) -> Int[Tensor, " n"]:
    """Number the distinct rows of a table from 0 without gaps."""
    ids = torch.zeros_like(columns[0])
    for column in columns:
        # Without gaps, so that the product of all spans does not overflow.
        _, column = torch.unique(column, return_inverse=True)
        _, ids = torch.unique(ids * (int(column.max()) + 1) + column, return_inverse=True)
    return ids


def cheapest_groups(
    gaussians: Gaussians,
    weight: Float[Tensor, " n"],
    footprints: Footprints,
    sizes_px: Sequence[float],
    count: int,
) -> Int[Tensor, " n"]:
    """Divide Gaussians into groups to be merged, with the least error of the images.

    Clusters of all sizes form trees. Of all ways to cut them, the one is taken that minimises the
    squared colour error of the members' pixels plus a price for each group, which is set so that
    as many groups remain as wanted (optimal pruning of trees, Chou, Lookabaugh & Gray 1989,
    section III): plain surfaces become few large Gaussians, and detail stays.

    Args:
        gaussians: Gaussians to group.
        weight: Sum of each one's weights in the images.
        footprints: Where the cameras see their positions.
        sizes_px: Sizes of clusters (px), each a multiple of the one before; those up to the first
            that suffices are used.
        count: Number of groups wanted.

    Returns:
        Index of each Gaussian's group, from 0 without gaps: `count` groups, or as many as there are
        clusters of the largest size if they are more.
    """
    levels, below = [], torch.arange(len(gaussians), device=gaussians.device)
    for size_px in sizes_px:
        level = _Level.of(clusters(footprints, size_px), below, gaussians, weight, size_px)
        levels.append(level)
        below = level.groups
        if len(level.error) <= count:  # larger ones would only blur
            break
    low, high = 0.0, 1.0 + float(sum(level.error.sum() for level in levels))
    if _Cut.at(levels, high).num_groups >= count:
        return _Cut.at(levels, high).groups
    for _ in range(MAX_BISECTIONS):
        price = (low * high) ** 0.5 if low > 0 else high / 1e6
        num_groups = _Cut.at(levels, price).num_groups
        if num_groups == count:
            return _Cut.at(levels, price).groups
        low, high = (price, high) if num_groups > count else (low, price)
    return _between(_Cut.at(levels, low).groups, _Cut.at(levels, high).groups, count)


@dataclass(frozen=True)
class _Level:
    """Clusters of one size."""

    groups: Int[Tensor, " n"]
    """Index of each Gaussian's cluster."""
    parents: Int[Tensor, " k"]
    """Index of the cluster that each cluster of the size below (at first, Gaussian) lies in."""
    error: Float[Tensor, " m"]
    """Squared colour error of merging each cluster; 0 for a single Gaussian."""

    @staticmethod
    def of(
        groups: Int[Tensor, " n"],
        below: Int[Tensor, " n"],
        gaussians: Gaussians,
        weight: Float[Tensor, " n"],
        size_px: float,
    ) -> "_Level":
        count, color = int(groups.max()) + 1, C0 * gaussians.sh[:, 0].double()
        parents = groups.new_empty(int(below.max()) + 1)
        parents[below] = groups
        weight = weight.double()
        total = group_sums(weight, groups, count)
        fraction = weight / total.clamp_min(1e-12)[groups]
        mean = group_sums(fraction[:, None] * color, groups, count)
        error = group_sums(weight * (color - mean[groups]).square().sum(-1), groups, count)
        error += total * (UNSEEN_DETAIL * size_px) ** 2
        single = torch.bincount(groups, minlength=count) == 1
        return _Level(groups, parents, error.masked_fill(single, 0.0))


@dataclass(frozen=True)
class _Cut:
    """The trees, cut where it is cheapest."""

    levels: Sequence[_Level]
    merged: list[Tensor]
    """Whether the clusters of each size are cheaper as one group than divided."""
    num_groups: int

    @staticmethod
    def at(levels: Sequence[_Level], price: float) -> "_Cut":
        """Cut where a group costs as much as this error."""
        merged = []
        cost = levels[0].error.new_full((len(levels[0].parents),), price)
        number = torch.ones_like(cost)
        for level in levels:
            count = len(level.error)
            divided = group_sums(cost, level.parents, count)
            together = level.error + price
            merged.append(together <= divided)
            cost = torch.minimum(together, divided)
            number = group_sums(number, level.parents, count).masked_fill(merged[-1], 1.0)
        return _Cut(levels, merged, int(number.sum()))

    @cached_property
    def groups(self) -> Int[Tensor, " n"]:
        """Index of each Gaussian's group, from 0 without gaps."""
        ids = torch.arange(len(self.levels[0].groups), device=self.levels[0].groups.device)
        offset = len(ids)
        for level, merged in zip(self.levels, self.merged, strict=True):
            ids = torch.where(merged[level.groups], offset + level.groups, ids)
            offset += len(merged)
        groups: Tensor = torch.unique(ids, return_inverse=True)[1]
        return groups


def _between(fine: Int[Tensor, " n"], coarse: Int[Tensor, " n"], count: int) -> Int[Tensor, " n"]:
    """Divide some of the coarse groups into the fine ones within them, to get `count` groups."""
    parents = coarse.new_empty(int(fine.max()) + 1)
    parents[fine] = coarse
    num_coarse = int(coarse.max()) + 1
    # Every fine group but the first of its coarse group adds one.
    order = parents.argsort(stable=True)
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = parents[order[1:]] != parents[order[:-1]]
    added = order[~first][: count - num_coarse]
    ids = parents.clone()
    ids[added] = num_coarse + torch.arange(len(added), device=ids.device)
    return ids[fine]


def group_sums(
    values: Float[Tensor, " n *k"], groups: Int[Tensor, " n"], count: int
) -> Float[Tensor, " m *k"]:
    """Sum the values of each group's members."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, groups, values)
