"""What training makes small."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.batch import NetworkOutput
from render import Cameras, Gaussians, RasterizeSettings, RenderOutput, rasterize
from training.perceptual import PerceptualNet, perceptual_distance


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; one with weight 0 is not computed."""

    mse: float = 1.0
    """Squared error of rendered colours (GS-LRM, Zhang et al. 2024, eq. 6)."""
    perceptual: float = 0.0
    """Perceptual distance of rendered pictures; GS-LRM 0.5, pixelSplat 0.05."""
    perceptual_net: PerceptualNet = "st_lpips_vgg"
    """What sees for it; its weights must be on the machine."""
    depth: float = 0.1
    """Absolute error of the logarithm of the context views' depth, where it is known; mean of
    the network's depth and of its earlier ones."""
    opacity: float = 0.0
    """Mean opacity, to get rid of what is not needed (LongLRM, Ziwen et al. 2024, eq. 5)."""
    distortion: float = 0.0
    """Spread of the Gaussians along the rays (2DGS, Huang et al. 2024, eq. 13)."""
    leak: float = 0.0
    """Mean transparency of the rendered scenes, for pictures that are full to their edges: on dark
    or difficult scenes the squared error hardly minds it."""
    background: Literal["black", "random"] = "black"
    """What shows through the rendered scenes. random: a colour for each picture, so that only
    opaque surfaces do; for pictures that are full to their edges."""


def backgrounds_of(config: LossConfig, cameras: Cameras) -> Float[Tensor, "b v 3"] | None:
    """A colour for each picture, drawn with torch's generator; None for black."""
    if config.background == "black":
        return None
    return torch.rand(*cameras.viewmats.shape[:-2], 3, device=cameras.device)


def losses_of(
    config: LossConfig,
    output: NetworkOutput,
    shown: RenderOutput,
    images: Float[Tensor, "b t 3 h w"],
    depth: Float[Tensor, "b v h w"],
    cameras: Cameras,
) -> dict[str, Tensor]:
    """Each loss, unweighted, and their weighted sum as "total"; `cameras` are those of `shown`."""
    losses = {"mse": (shown.rgb - images).square().mean()}
    if config.perceptual > 0:
        distance = perceptual_distance(config.perceptual_net, str(images.device))
        flat = (t.flatten(0, 1) for t in (shown.rgb.clamp(0, 1), images))
        losses["perceptual"] = distance(*flat).mean()
    if config.depth > 0:
        losses["depth"] = _depth_loss(output, depth)
    if config.opacity > 0:
        losses["opacity"] = output.gaussians.opacities.mean()
    if config.leak > 0:
        losses["leak"] = (1 - shown.alpha).mean()
    if config.distortion > 0:
        losses["distortion"] = distortion_loss(output.gaussians, cameras)
    weighted = [getattr(config, name) * value for name, value in losses.items()]
    return {**losses, "total": torch.stack(weighted).sum()}


def _depth_loss(output: NetworkOutput, depth: Float[Tensor, "b v h w"]) -> Tensor:
    """Over the pixels whose depth is known: elsewhere it is NaN."""
    known = torch.isfinite(depth)
    truth = torch.where(known, depth, 1.0).log()
    guesses = (output.depth, *output.earlier_depths)
    errors = [((guess.log() - truth).abs() * known).sum() for guess in guesses]
    return torch.stack(errors).mean() / known.sum().clamp_min(1)


def distortion_loss(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """Mean over rays of sum_ij w_i w_j (m_i - m_j)^2, m = 1 / z relative to its mean.

    The square, as in 2DGS's code, needs three sums of a ray only:
    2 (sum w) (sum w m^2) - 2 (sum w m)^2.
    """
    settings = RasterizeSettings(render_mode="RGB")
    spreads = []
    for v in range(len(cameras)):
        camera = cameras[v]
        rows = camera.viewmats[..., 2:3, :]
        z = (gaussians.means * rows[..., :3]).sum(-1) + rows[..., 3]
        m = 1 / z.clamp_min(settings.near)
        m = m / m.detach().mean(-1, keepdim=True)
        m = torch.where(z > settings.near, m, 0.0)
        features = torch.stack([m, m * m], -1)
        shown = rasterize(gaussians, camera, settings=settings, features=features)
        first, second = shown.rgb.unbind(-3)
        spreads.append(2 * (shown.alpha[..., 0, :, :] * second - first.square()).mean())
    return torch.stack(spreads).mean()
