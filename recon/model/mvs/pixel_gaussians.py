"""One Gaussian per pixel from a depth map."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.types import Views
from render import Gaussians
from render.sh import colors_to_sh

# Pixels that are masked out by more than half become no Gaussians.
MIN_MASK = 0.5


@dataclass(frozen=True)
class PixelGaussianConfig:
    """Shape of the Gaussians: discs that lie in the surface."""

    sigma_px: float = 0.7
    """Standard deviation along the surface, in pixel footprints at the disc's depth."""
    thickness_px: float = 0.2
    """Standard deviation across the surface, in pixel footprints."""
    opacity: float = 0.95
    """Below 1: rasterizers end a pixel before the Gaussian that would bring its
    transmittance under 1e-4, and at alpha 0.999 that one may be most of what is seen."""


def pixel_gaussians(
    views: Views,
    depth: Float[Tensor, "v h w"],
    keep: Bool[Tensor, "v h w"],
    config: PixelGaussianConfig,
) -> tuple[Gaussians, Int[Tensor, "n"]]:
    """Discs at the pixels' depths in the pixels' colours, flattened over views; the view of each.

    They face as the surface that neighbouring depths span; opacity follows the mask. Pixels
    that are not to keep, or are masked out, become none.
    """
    rays_o, rays_d = views.cameras.rays()
    means = rays_o + depth[..., None] * rays_d
    focal = 0.5 * (views.cameras.Ks[:, 0, 0] + views.cameras.Ks[:, 1, 1])
    footprint = depth / focal[:, None, None]
    shape = torch.tensor([config.sigma_px, config.sigma_px, config.thickness_px]).to(depth)
    mask = views.masks[:, 0]
    keep = keep & (mask >= MIN_MASK)
    # Pictures were multiplied by their mask: undo that at soft edges.
    colors = views.images.permute(0, 2, 3, 1)[keep] / mask[keep][:, None]
    gaussians = Gaussians(
        means=means[keep],
        quats=_facing(surface_normals(means, rays_d)[keep]),
        scales=footprint[keep][:, None] * shape,
        opacities=config.opacity * mask[keep],
        sh=colors_to_sh(colors.clamp(0, 1)),
    )
    return gaussians, source_view_of(keep)


def source_view_of(keep: Bool[Tensor, "v *pixels"]) -> Int[Tensor, "n"]:
    """The view of each kept pixel, in the pixels' order."""
    return keep.nonzero()[:, 0]


def surface_normals(
    means: Float[Tensor, "v h w 3"], rays_d: Float[Tensor, "v h w 3"]
) -> Float[Tensor, "v h w 3"]:
    """Unit normals, towards the camera, of the surface through neighbouring points."""
    normal = torch.cross(_smaller_step(means, 2), _smaller_step(means, 1), dim=-1)
    # Steps are tiny in large scenes' units, so compare lengths, not squares, with 0.
    length = normal.norm(dim=-1, keepdim=True)
    toward = -torch.nn.functional.normalize(rays_d, dim=-1)
    normal = torch.where(length > 0, normal / length.clamp_min(1e-30), toward)
    return torch.where((normal * toward).sum(-1, keepdim=True) < 0, -normal, normal)


def _smaller_step(means: Float[Tensor, "v h w 3"], axis: int) -> Float[Tensor, "v h w 3"]:
    """Difference to the next or to the previous neighbour, whichever is nearer: the one
    that is more likely on the same surface."""
    step = means.diff(dim=axis)
    ahead = torch.cat([step, step.narrow(axis, step.shape[axis] - 1, 1)], axis)
    behind = torch.cat([step.narrow(axis, 0, 1), step], axis)
    nearer = ahead.norm(dim=-1, keepdim=True) <= behind.norm(dim=-1, keepdim=True)
    return torch.where(nearer, ahead, behind)


def _facing(normals: Float[Tensor, "m 3"]) -> Float[Tensor, "m 4"]:
    """Shortest rotations (wxyz) of the z axis onto the normals, up to their sign."""
    # A disc looks the same from both sides: the half with z >= 0 avoids the half turn.
    normals = torch.where(normals[:, 2:] < 0, -normals, normals)
    x, y, z = normals.unbind(-1)
    return torch.nn.functional.normalize(
        torch.stack([1 + z, -y, x, torch.zeros_like(z)], -1), dim=-1
    )
