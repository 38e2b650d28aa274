"""One Gaussian per pixel, from depth maps."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.types import Views
from render import Gaussians
from render.sh import colors_to_sh

# Pixels with a smaller mask value than this do not become Gaussians.
MIN_MASK = 0.5


@dataclass(frozen=True)
class PixelGaussianConfig:
    """Shape of the Gaussians, which are discs in the surface."""

    sigma_px: float = 0.7
    """Standard deviation along the surface, in pixel footprints at the disc's depth."""
    thickness_px: float = 0.2
    """Standard deviation across the surface, in pixel footprints."""
    opacity: float = 0.95
    """Opacity, below 1: rasterizers stop before the Gaussian that would bring a pixel's
    transmittance under 1e-4, and at alpha 0.999 that one may dominate the pixel."""


def pixel_gaussians(
    views: Views,
    depth: Float[Tensor, "v h w"],
    keep: Bool[Tensor, "v h w"],
    config: PixelGaussianConfig,
) -> tuple[Gaussians, Int[Tensor, " n"]]:
    """Make discs at the pixels' depths in the pixels' colours.

    A disc's normal is that of the surface through neighbouring depths; its opacity is scaled by
    the mask.

    Args:
        views: Images, masks and cameras.
        depth: Depth of every pixel (z, world units).
        keep: Pixels to convert; masked ones are left out in any case.
        config: Shape of the discs.

    Returns:
        Gaussians in the world frame, ordered by view, row and column, and the view of each.
    """
    rays_o, rays_d = views.cameras.rays()
    means = rays_o + depth[..., None] * rays_d
    focal = 0.5 * (views.cameras.Ks[:, 0, 0] + views.cameras.Ks[:, 1, 1])
    footprint = depth / focal[:, None, None]
    shape = torch.tensor([config.sigma_px, config.sigma_px, config.thickness_px]).to(depth)
    mask = views.masks[:, 0]
    keep = keep & (mask >= MIN_MASK)
    # Images were multiplied by their mask: undo that at soft edges.
    colors = views.images.permute(0, 2, 3, 1)[keep] / mask[keep][:, None]
    gaussians = Gaussians(
        means=means[keep],
        quats=_rotations_to(surface_normals(means, rays_d)[keep]),
        scales=footprint[keep][:, None] * shape,
        opacities=config.opacity * mask[keep],
        sh=colors_to_sh(colors.clamp(0, 1)),
    )
    return gaussians, source_view_of(keep)


def source_view_of(keep: Bool[Tensor, " v *pixels"]) -> Int[Tensor, " n"]:
    """Return the view of each kept pixel, in the pixels' order."""
    return keep.nonzero()[:, 0]


def surface_normals(
    means: Float[Tensor, "v h w 3"], rays_d: Float[Tensor, "v h w 3"]
) -> Float[Tensor, "v h w 3"]:
    """Compute unit normals, towards the camera, of the surface through neighbouring points."""
    normal = torch.cross(_smaller_step(means, 2), _smaller_step(means, 1), dim=-1)
    # Steps are tiny in large scenes' units, so compare lengths, not squares, with 0.
    length = normal.norm(dim=-1, keepdim=True)
    toward = -torch.nn.functional.normalize(rays_d, dim=-1)
    normal = torch.where(length > 0, normal / length.clamp_min(1e-30), toward)
    return torch.where((normal * toward).sum(-1, keepdim=True) < 0, -normal, normal)


def _smaller_step(means: Float[Tensor, "v h w 3"], axis: int) -> Float[Tensor, "v h w 3"]:
    """Compute the difference to the nearer of the next and the previous neighbour.

    The nearer one is more likely on the same surface.
    """
    step = means.diff(dim=axis)
    ahead = torch.cat([step, step.narrow(axis, step.shape[axis] - 1, 1)], axis)
    behind = torch.cat([step.narrow(axis, 0, 1), step], axis)
    nearer = ahead.norm(dim=-1, keepdim=True) <= behind.norm(dim=-1, keepdim=True)
    return torch.where(nearer, ahead, behind)


def _rotations_to(normals: Float[Tensor, "m 3"]) -> Float[Tensor, "m 4"]:
    """Compute the shortest rotations (wxyz) of the z axis onto the normals, up to their sign."""
    # A disc looks the same from both sides: z >= 0 avoids rotations by 180 degrees.
    normals = torch.where(normals[:, 2:] < 0, -normals, normals)
    x, y, z = normals.unbind(-1)
    return torch.nn.functional.normalize(
        torch.stack([1 + z, -y, x, torch.zeros_like(z)], -1), dim=-1
    )
