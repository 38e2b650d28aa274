"""Correction of a network's depth where images clearly match better at that of a plane sweep.

A network trained on smooth scenes blurs thin and near things into what is behind them, which the
plane sweep finds; elsewhere the network is better (docs/experiments/depth-correction.md).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from recon.model.mvs.cost_volume import cost_volume
from recon.model.mvs.depth_range import DepthRange
from recon.model.mvs.plane_sweep import PlaneSweep, PlaneSweepConfig
from recon.types import Views

# One round and one size of windows take less than half the time and find as much.
SWEEP = PlaneSweepConfig(rounds=1, radii=(2,))
# Half sizes of the windows (px) in which both depths are compared.
RADII = (1, 2)
# Depths that differ by less than this fraction are left to the network.
MIN_DIFFERENCE = 0.05
# Matching costs, (1 - ZNCC) / 2, must differ by at least this for the sweep's depth to be taken.
MARGIN = 0.1


@torch.no_grad()
def depth_factors(
    views: Views,
    depth: Float[Tensor, "v h w"],
    depth_range: DepthRange,
    confirmations: int = 1,
) -> Float[Tensor, "v h w"]:
    """Compute the factor of each pixel's depth, which is 1 where the depth is kept.

    A depth is replaced by that of a plane sweep which other views confirm, if the images match
    clearly better there.

    Args:
        views: At least two views.
        depth: Depth of every pixel (z, world units).
        depth_range: Depths to search.
        confirmations: Number of other views that must confirm a depth of the sweep.
    """
    found = PlaneSweep(replace(SWEEP, confirmations=confirmations)).match(views, depth_range)
    pair = torch.stack([found.maps.disparity, found.confirmed.to(depth)], 1)
    disparity, confirmed = interpolate(pair, views.images.shape[-2:], mode="nearest").unbind(1)
    factors = 1 / (disparity * depth)
    candidates = torch.stack([1 / depth, disparity], 1)
    for v, sources in enumerate(found.search.sources):
        old, new = cost_volume(views.images, views.cameras, v, sources, candidates[v], RADII)
        taken = (confirmed[v] > 0.5) & (new < old - MARGIN)
        taken &= (disparity[v] * depth[v] - 1).abs() > MIN_DIFFERENCE
        factors[v].masked_fill_(~taken, 1.0)
    return factors
