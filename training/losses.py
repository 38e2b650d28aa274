"""What training makes small."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.batch import NetworkOutput
from render import RenderOutput


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses."""

    mse: float = 1.0
    """Squared error of rendered colours (GS-LRM, Zhang et al. 2024, eq. 6)."""
    depth: float = 0.1
    """Absolute error of the logarithm of the context views' depth, where it is known; mean of
    the network's depth and of its earlier ones."""
    opacity: float = 0.0
    """Mean opacity, to get rid of what is not needed (LongLRM, Ziwen et al. 2024, eq. 5)."""


def losses_of(
    config: LossConfig,
    output: NetworkOutput,
    shown: RenderOutput,
    images: Float[Tensor, "b t 3 h w"],
    depth: Float[Tensor, "b v h w"],
) -> dict[str, Tensor]:
    """Each loss, unweighted, and their weighted sum as "total"."""
    losses = {
        "mse": (shown.rgb - images).square().mean(),
        "depth": _depth_loss(output, depth),
        "opacity": output.gaussians.opacities.mean(),
    }
    weighted = [getattr(config, name) * value for name, value in losses.items()]
    return {**losses, "total": torch.stack(weighted).sum()}


def _depth_loss(output: NetworkOutput, depth: Float[Tensor, "b v h w"]) -> Tensor:
    guesses = (output.depth, *output.earlier_depths)
    return torch.stack([(guess.log() - depth.log()).abs().mean() for guess in guesses]).mean()
