"""Which Gaussians go: those that no picture shows, and those whose neighbours look alike."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.simplify.cells import cells
from recon.simplify.merge import merge, sums
from render import Cameras, Gaussians, measure_contributions
from render.footprints import Footprints
from render.sh import C0


@dataclass(frozen=True)
class PruneConfig:
    """How hard to prune."""

    share: float = 0.5
    """Part of the Gaussians that goes (0 to 1), if that many can."""
    unseen: float = 0.004
    """Gaussians go first whose weight is below this in every pixel: 1 / 255 changes nothing."""
    cells_px: tuple[float, ...] = (2.0, 3.0, 4.0, 6.0)
    """Gaussians that meet in a cell of so many pixels may become one; the first size that is enough
    is taken."""


def prune(gaussians: Gaussians, cameras: Cameras, config: PruneConfig) -> Gaussians:
    """The same pictures from fewer Gaussians: what none of these cameras sees goes, then
    Gaussians of one patch of surface are merged, those of like colours first."""
    if config.share == 0:
        return gaussians
    seen = measure_contributions(gaussians, cameras)
    wanted = round(len(gaussians) * (1 - config.share))
    keep = seen.weight_max >= config.unseen
    if int(keep.sum()) <= wanted:
        keep = torch.zeros_like(keep)
        keep[seen.weight_max.topk(wanted).indices] = True
    gaussians, weight = gaussians.select(keep), seen.weight_sum[keep]
    if len(gaussians) <= wanted:
        return gaussians
    footprints = Footprints.of(gaussians.means, cameras)
    for size_px in config.cells_px:
        groups = cells(footprints, size_px)
        if int(groups.max()) < wanted:
            break
    groups = _cheapest(gaussians, weight, groups, len(gaussians) - wanted)
    return _merged(gaussians, footprints.size, groups)


def _cheapest(
    gaussians: Gaussians, weight: Float[Tensor, "n"], groups: Int[Tensor, "n"], excess: int
) -> Int[Tensor, "n"]:
    """The groups, with those broken up again that are not needed to get rid of `excess`.

    A group costs the squared error of colour that its members' pixels get, for each Gaussian
    that it saves.
    """
    count = int(groups.max()) + 1
    color = C0 * gaussians.sh[:, 0]
    total = sums(weight, groups, count).clamp_min(1e-12)
    share = (weight / total[groups])[:, None]
    mean = sums(share * color, groups, count)
    error = weight * (color - mean[groups]).square().sum(-1)
    saved = torch.bincount(groups, minlength=count) - 1
    cost = sums(error, groups, count) / saved.clamp_min(1)
    order = torch.where(saved > 0, cost, torch.inf).argsort()
    needed = saved[order].cumsum(0) - saved[order] < excess
    kept = torch.zeros(count, dtype=torch.bool, device=groups.device)
    kept[order[needed]] = True
    kept &= saved > 0
    single = ~kept[groups]
    # Of the last one no more members than are needed, so that the number is met.
    spare = int(saved[kept].sum()) - excess
    if spare > 0:
        last = order[needed][-1]
        single[(groups == last).nonzero()[:spare, 0]] = True
    alone = count + torch.arange(int(single.sum()), device=groups.device)
    return groups.masked_scatter(single, alone)


def _merged(
    gaussians: Gaussians, footprints: Float[Tensor, "n"], groups: Int[Tensor, "n"]
) -> Gaussians:
    """Every group as one; those that stand alone stay as they are."""
    _, groups, size = torch.unique(groups, return_inverse=True, return_counts=True)
    alone = size[groups] == 1
    _, together = torch.unique(groups[~alone], return_inverse=True)
    if len(together) == 0:
        return gaussians
    parts = (gaussians.select(~alone), footprints[~alone], together)
    made = merge(*parts, int(together.max()) + 1)
    return Gaussians.concatenate([gaussians.select(alone), made])
