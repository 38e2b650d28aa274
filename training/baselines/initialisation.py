"""What an optimisation from scratch starts from: points with colours, as round Gaussians."""

import torch
from torch import Tensor

from recon.model.mvs.depth_range import estimate_depth_range
from recon.types import Views
from render import Gaussians
from render.sh import colors_to_sh

# MCMC's own start (Kheradmand et al. 2024, section 4.1).
OPACITY = 0.5


def random_points(views: Views, count: int, seed: int) -> Gaussians:
    """Even over the photos' pixels and over disparity between near and far, in random colours,
    as large as the gaps between them."""
    generator = torch.Generator().manual_seed(seed)
    depths = estimate_depth_range(views)
    v, _, h, w = views.images.shape
    photo = torch.randint(v, (count,), generator=generator)
    row = torch.randint(h, (count,), generator=generator)
    column = torch.randint(w, (count,), generator=generator)
    near, far = 1 / depths.near[photo], 1 / depths.far[photo]
    depth = 1 / (far + torch.rand(count, generator=generator) * (near - far))
    origins, rays = views.cameras.rays()
    means = origins[photo, row, column] + depth[:, None] * rays[photo, row, column]
    focal = views.cameras.Ks[photo, 0, 0]
    gap = depth / focal * (v * h * w / count) ** 0.5
    colors = torch.rand(count, 3, generator=generator)
    return _round(means, gap, colors_to_sh(colors))


def surface_points(gaussians: Gaussians, views: Views) -> Gaussians:
    """A prediction's positions and colours, nothing else of it; as large as a pixel is there."""
    distance = torch.cdist(gaussians.means, views.cameras.centers).amin(1)
    return _round(gaussians.means, distance / views.cameras.Ks[:, 0, 0].mean(), gaussians.sh[:, :1])


def _round(means: Tensor, sizes: Tensor, sh: Tensor) -> Gaussians:
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1),
        scales=sizes[:, None].repeat(1, 3),
        opacities=torch.full((len(means),), OPACITY),
        sh=sh,
    )
