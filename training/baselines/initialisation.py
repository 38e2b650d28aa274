"""Initial Gaussians of an optimisation: coloured points as isotropic Gaussians."""

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.depth_range import estimate_depth_range
from recon.types import Views
from render import Gaussians
from render.sh import colors_to_sh

# Initial opacity of MCMC (Kheradmand et al. 2024, section 4.1).
OPACITY = 0.5


def random_points(views: Views, count: int, seed: int) -> Gaussians:
    """Draw points uniformly over pixels and over disparity between near and far.

    Colours are random; sizes fill the gaps between neighbouring points.
    """
    generator = torch.Generator().manual_seed(seed)
    depths = estimate_depth_range(views)
    v, _, h, w = views.images.shape
    view = torch.randint(v, (count,), generator=generator)
    row = torch.randint(h, (count,), generator=generator)
    column = torch.randint(w, (count,), generator=generator)
    near, far = 1 / depths.near[view], 1 / depths.far[view]
    depth = 1 / (far + torch.rand(count, generator=generator) * (near - far))
    origins, rays = views.cameras.rays()
    means = origins[view, row, column] + depth[:, None] * rays[view, row, column]
    focal = views.cameras.Ks[view, 0, 0]
    gap = depth / focal * (v * h * w / count) ** 0.5
    colors = torch.rand(count, 3, generator=generator)
    return _isotropic(means, gap, colors_to_sh(colors))


def surface_points(gaussians: Gaussians, views: Views) -> Gaussians:
    """Keep only the positions and colours of a prediction; sizes are those of a pixel there."""
    distance = torch.cdist(gaussians.means, views.cameras.centers).amin(1)
    sizes = distance / views.cameras.Ks[:, 0, 0].mean()
    return _isotropic(gaussians.means, sizes, gaussians.sh[:, :1])


def random_subset(gaussians: Gaussians, count: int, seed: int) -> Gaussians:
    """Keep at most `count` Gaussians, drawn at random."""
    order = torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(seed))
    return gaussians[order[:count]]


def _isotropic(
    means: Float[Tensor, "n 3"], sizes: Float[Tensor, "n"], sh: Float[Tensor, "n k 3"]
) -> Gaussians:
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1),
        scales=sizes[:, None].repeat(1, 3),
        opacities=torch.full((len(means),), OPACITY),
        sh=sh,
    )
