"""One Gaussian per pixel from a depth map."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.types import Views
from render import Gaussians
from render.quaternions import rotmats_to_quats
from render.sh import colors_to_sh

# Pixels that are masked out by more than half become no Gaussians.
MIN_MASK = 0.5


@dataclass(frozen=True)
class PixelGaussianConfig:
    """Shape of the Gaussians."""

    sigma_px: float = 0.7
    """Standard deviation across the ray, in pixel footprints at the Gaussian's depth."""
    max_slant: float = 4.0
    """Along the surface the deviation grows with its slant, up to this many footprints."""
    thickness_px: float = 0.2
    """Standard deviation across the surface, in pixel footprints."""


def pixel_gaussians(
    views: Views,
    depth: Float[Tensor, "v h w"],
    opacity: Float[Tensor, "v h w"],
    config: PixelGaussianConfig,
) -> Gaussians:
    """Gaussians at the pixels' depths in the pixels' colours, flattened over views.

    Each is a disc that lies in the surface which neighbouring depths span, so that
    slanted surfaces stay closed from other viewpoints.
    """
    rays_o, rays_d = views.cameras.rays()
    means = rays_o + depth[..., None] * rays_d
    quats, scales = _surface_discs(means, rays_d, depth, views, config)
    colors = views.images.permute(0, 2, 3, 1)
    # Pictures are black where masked: undo that at soft mask edges.
    mask = views.masks[:, 0]
    colors = (colors / mask.clamp_min(MIN_MASK)[..., None]).clamp(0, 1)
    keep = mask >= MIN_MASK
    return Gaussians(
        means=means[keep],
        quats=quats[keep],
        scales=scales[keep],
        opacities=(opacity * mask)[keep],
        sh=colors_to_sh(colors[keep]),
    )


def _surface_discs(
    means: Float[Tensor, "v h w 3"],
    rays_d: Float[Tensor, "v h w 3"],
    depth: Float[Tensor, "v h w"],
    views: Views,
    config: PixelGaussianConfig,
) -> tuple[Float[Tensor, "v h w 4"], Float[Tensor, "v h w 3"]]:
    """Orientation and size of a disc per pixel."""
    focal = 0.5 * (views.cameras.Ks[:, 0, 0] + views.cameras.Ks[:, 1, 1])
    footprint = depth / focal[:, None, None]
    across = _smaller_step(means, 2)
    down = _smaller_step(means, 1)
    normal = torch.nn.functional.normalize(torch.cross(across, down, dim=-1), dim=-1)
    toward = -torch.nn.functional.normalize(rays_d, dim=-1)
    normal = torch.where((normal * toward).sum(-1, keepdim=True) < 0, -normal, normal)
    cosine = (normal * toward).sum(-1, keepdim=True)
    normal = torch.where(cosine > 1e-4, normal, toward)
    # The disc's long axis points where the surface recedes: the ray laid into the surface.
    recede = toward - cosine * normal
    sideways = torch.cross(normal, toward, dim=-1)
    facing = recede.norm(dim=-1, keepdim=True) < 1e-4
    reference = views.cameras.viewmats[:, None, None, 0, :3].expand_as(normal)
    aside = torch.cross(normal, reference, dim=-1)
    sideways = torch.nn.functional.normalize(torch.where(facing, aside, sideways), dim=-1)
    long_axis = torch.cross(sideways, normal, dim=-1)
    axes = torch.stack([long_axis, sideways, normal], -1)
    slant = (1 / cosine.clamp_min(1e-3))[..., 0].clamp_max(config.max_slant)
    sigma = config.sigma_px * footprint
    scales = torch.stack([sigma * slant, sigma, config.thickness_px * footprint], -1)
    return rotmats_to_quats(axes), scales


def _smaller_step(means: Float[Tensor, "v h w 3"], axis: int) -> Float[Tensor, "v h w 3"]:
    """Difference to the next or to the previous neighbour, whichever is nearer: the one
    that is more likely on the same surface."""
    step = means.diff(dim=axis)
    edge = step.narrow(axis, 0, 1)
    ahead = torch.cat([step, step.narrow(axis, step.shape[axis] - 1, 1)], axis)
    behind = torch.cat([edge, step], axis)
    nearer = ahead.norm(dim=-1, keepdim=True) <= behind.norm(dim=-1, keepdim=True)
    return torch.where(nearer, ahead, behind)
