"""Activations that convert a network's raw channels to Gaussians."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.layers.precision import full_precision
from render import Gaussians
from render.quaternions import multiply_quats, rotmats_to_quats
from render.sh import C0, num_coefficients


@dataclass(frozen=True)
class GaussianHeadConfig:
    """Activations of the raw channels, which make one Gaussian per pixel.

    The defaults are GS-LRM's (Zhang et al. 2024, appendix A.2) unless stated otherwise. Field
    names are stored in the headers of checkpoints: renaming one breaks existing files.
    """

    sh_degree: int = 0
    """Degree of the spherical harmonics; GS-LRM uses 0."""
    color: Literal["predicted", "residual"] = "residual"
    """predicted: the network predicts the colour (GS-LRM); residual: it predicts a difference to
    the pixel's colour, so that it starts at the right one, as pixelSplat's successors do."""
    depth: Literal["linear", "disparity"] = "disparity"
    """Depth is a sigmoid between near and far, linear in distance (GS-LRM) or in 1/depth, where
    an error of a pixel has the same effect at every depth (pixelSplat, section 4.2)."""
    scale: Literal["absolute", "footprint"] = "footprint"
    """absolute: min(exp(x + scale_bias), scale_max) in normalised units (GS-LRM); footprint:
    scale_min_px to scale_max_px times the pixel's footprint at its depth (pixelSplat)."""
    scale_bias: float = -2.3
    """Added to raw scales; the initial scales are then about 0.1 (GS-LRM)."""
    scale_max: float = 0.3
    """Largest absolute scale (normalised units); GS-LRM 0.3."""
    scale_min_px: float = 0.2
    """Smallest footprint scale (px); pixelSplat 0.5, at pixels of twice the size."""
    scale_max_px: float = 6.0
    """Largest footprint scale (px); pixelSplat 15."""
    opacity_bias: float = 2.0
    """Added before the sigmoid. GS-LRM -2; positive here because initial renders with holes give
    no gradient for the depth."""

    @property
    def parts(self) -> list[int]:
        """Raw channels per pixel of depth, opacity, scale, rotation and colours."""
        return [1, 1, 3, 4, 3 * num_coefficients(self.sh_degree)]

    @property
    def channels(self) -> int:
        """Raw channels per pixel."""
        return sum(self.parts)


@full_precision
def activate(
    raw: Float[Tensor, "b v h w c"],
    batch: ViewBatch,
    config: GaussianHeadConfig,
    opacity_weight: Float[Tensor, "b v h w"] | float = 1.0,
) -> NetworkOutput:
    """Create Gaussians along the pixels' rays, in the frame of the batch's cameras.

    Args:
        raw: The network's output, `config.channels` per pixel.
        batch: The views that the network saw.
        config: Activations.
        opacity_weight: Factor on each Gaussian's optical depth -log(1 - opacity), by which
            views that see the same surface divide its opacity.
    """
    if raw.shape[-1] != config.channels:
        raise ValueError(f"expected {config.channels} raw channels, got {raw.shape[-1]}")
    raw = raw.float()  # bf16 is too coarse for positions
    depth_raw, opacity_raw, scale_raw, quat_raw, color_raw = raw.split(config.parts, -1)
    rays_o, rays_d = batch.cameras.rays()
    depth = _depth(depth_raw[..., 0], batch, rays_d, config)
    means = rays_o + depth[..., None] * rays_d
    # With a weight of 1 this is the sigmoid.
    optical_depth = torch.nn.functional.softplus(opacity_raw[..., 0] + config.opacity_bias)
    opacity = -torch.expm1(-opacity_weight * optical_depth)
    flat = (raw.shape[0], depth[0].numel())
    gaussians = Gaussians(
        means=means.reshape(*flat, 3),
        quats=_quats(quat_raw, batch).reshape(*flat, 4),
        scales=_scales(scale_raw, depth, batch, config).reshape(*flat, 3),
        opacities=opacity.reshape(flat),
        sh=_sh(color_raw, batch, config).reshape(*flat, -1, 3),
    )
    return NetworkOutput(gaussians, depth, opacity)


def _depth(
    raw: Float[Tensor, "b v h w"],
    batch: ViewBatch,
    rays_d: Float[Tensor, "b v h w 3"],
    config: GaussianHeadConfig,
) -> Float[Tensor, "b v h w"]:
    """Map raw depth to z between the view's near and far.

    linear: distance along the unit ray t = (1 - w) near + w far, w = sigmoid(raw) (GS-LRM,
    eq. 4), as z. disparity: 1 / z = (1 - w) / near + w / far.
    """
    near, far = batch.near[..., None, None], batch.far[..., None, None]
    w = torch.sigmoid(raw)
    if config.depth == "linear":
        lengths: Tensor = rays_d.norm(dim=-1)
        return ((1 - w) * near + w * far) / lengths
    return 1 / ((1 - w) / near + w / far)


def _scales(
    raw: Float[Tensor, "b v h w 3"],
    depth: Float[Tensor, "b v h w"],
    batch: ViewBatch,
    config: GaussianHeadConfig,
) -> Float[Tensor, "b v h w 3"]:
    if config.scale == "absolute":
        return (raw + config.scale_bias).exp().clamp_max(config.scale_max)
    focal = 0.5 * (batch.cameras.Ks[..., 0, 0] + batch.cameras.Ks[..., 1, 1])
    low, high = config.scale_min_px, config.scale_max_px
    # At raw 0 about one pixel, whatever the limits are.
    start = torch.logit(torch.tensor((1.0 - low) / (high - low)))
    size_px = low + (high - low) * torch.sigmoid(raw + start)
    return size_px * (depth / focal[..., None, None])[..., None]


def _quats(raw: Float[Tensor, "b v h w 4"], batch: ViewBatch) -> Float[Tensor, "b v h w 4"]:
    """Map raw channels to unit quaternions (wxyz).

    They are relative to the camera's axes and start at the identity, so that Gaussians rotate
    with their camera.
    """
    identity = raw.new_tensor([1.0, 0.0, 0.0, 0.0])
    local = torch.nn.functional.normalize(raw + identity, dim=-1)
    c2w = rotmats_to_quats(batch.cameras.viewmats[..., :3, :3].mT)
    return multiply_quats(c2w[:, :, None, None].expand_as(local), local)


def _sh(
    raw: Float[Tensor, "b v h w c"], batch: ViewBatch, config: GaussianHeadConfig
) -> Float[Tensor, "b v h w k 3"]:
    """Map raw channels to SH; higher bands start small (pixelSplat: 0.1 * 0.25^degree)."""
    sh: Tensor = raw.unflatten(-1, (-1, 3))
    bands = [degree for degree in range(config.sh_degree + 1) for _ in range(2 * degree + 1)]
    fade = [1.0 if degree == 0 else 0.1 * 0.25**degree for degree in bands]
    sh = sh * raw.new_tensor(fade)[:, None]
    if config.color == "predicted":
        return sh
    pixel = (batch.images.movedim(2, -1) - 0.5) / C0
    return torch.cat([sh[..., :1, :] + pixel[..., None, :], sh[..., 1:, :]], -2)
