"""Scenes for timing rasterizers: two like our models' output, one like 3DGS's."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.sh import colors_to_sh, num_coefficients


def pixel_aligned(
    side: int, views: int, size: int, sigma_px: float, degree: int
) -> tuple[Gaussians, Cameras]:
    """Make one Gaussian per pixel of views of a bumpy wall, and a camera between them.

    Args:
        side: Image side of the views (px).
        views: Number of views.
        size: Image side of the rendering camera (px).
        sigma_px: Size of the Gaussians in the render (px).
        degree: SH degree of the colours.
    """
    generator = torch.Generator().manual_seed(side + views)
    focal = 0.9 * side
    parts = []
    for view in range(views):
        camera = _camera(side, side, focal, 0.4 * (view - (views - 1) / 2))
        rays_o, rays_d = camera.rays()
        u, v = rays_d[0, ..., 0], rays_d[0, ..., 1]
        depth = 3 + 0.6 * torch.sin(5 * u + view) * torch.cos(4 * v) + 0.3 * torch.sin(23 * u * v)
        depth = depth + 0.02 * torch.randn(depth.shape, generator=generator)
        means = (rays_o[0] + depth[..., None] * rays_d[0]).reshape(-1, 3)
        count = len(means)
        spread = 0.5 + torch.rand(count, 3, generator=generator)
        scales = spread * (depth.reshape(-1, 1) / (0.9 * size)) * sigma_px
        parts.append(_scene(means, scales, _uniform(generator, 0.05, 0.95, count), generator))
    scene = Gaussians.cat(parts)
    return _with_degree(scene, degree, generator), _camera(size, size, 0.9 * size, 0.05)


def optimised(count: int, width: int, height: int, degree: int) -> tuple[Gaussians, Cameras]:
    """Imitate the result of per-scene optimisation: long-tailed sizes, flat, many faint ones."""
    generator = torch.Generator().manual_seed(count)
    depth = 1 + 7 * torch.rand(count, generator=generator) ** 0.5
    # A quarter of them lies outside the image.
    u, v = _uniform(generator, -0.7, 0.7, count), _uniform(generator, -0.41, 0.41, count)
    means = torch.stack([u, v, torch.ones(count)], -1) * depth[:, None]
    size = torch.exp(torch.randn(count, 1, generator=generator) * 0.8 + math.log(0.0031))
    shape = torch.exp(torch.randn(count, 3, generator=generator) * 0.6)
    faint = _uniform(generator, 0.02, 0.3, count)
    solid = _uniform(generator, 0.3, 1.0, count)
    opacities = torch.where(torch.rand(count, generator=generator) < 0.6, faint, solid)
    scene = _scene(means, size * shape, opacities, generator)
    return _with_degree(scene, degree, generator), _camera(width, height, 0.8 * width, 0.0)


SCENES: dict[str, Callable[[int], tuple[Gaussians, Cameras]]] = {
    "s1": lambda degree: pixel_aligned(256, 2, 256, 0.75, degree),
    "s2": lambda degree: pixel_aligned(256, 4, 512, 1.29, degree),
    "s3": lambda degree: optimised(1_000_000, 960, 540, degree),
}


def _camera(width: int, height: int, focal: float, x: float) -> Cameras:
    viewmat = torch.eye(4)
    viewmat[0, 3] = -x
    return Cameras.from_focal(viewmat[None], focal, width, height)


def _scene(
    means: Float[Tensor, "n 3"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    generator: torch.Generator,
) -> Gaussians:
    count = len(means)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)
    sh = colors_to_sh(torch.rand(count, 3, generator=generator))
    return Gaussians(means, quats, scales, opacities, sh)


def _with_degree(scene: Gaussians, degree: int, generator: torch.Generator) -> Gaussians:
    extra = 0.1 * torch.randn(len(scene), num_coefficients(degree) - 1, 3, generator=generator)
    sh = torch.cat([scene.sh, extra], -2)
    return Gaussians(scene.means, scene.quats, scene.scales, scene.opacities, sh)


def _uniform(generator: torch.Generator, low: float, high: float, count: int) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
