"""3D Gaussian Splatting as Markov chain Monte Carlo (Kheradmand et al. 2024): dead Gaussians
move to where live ones are, and all are shaken by noise."""

from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Most Gaussians that one becomes, as in gsplat.
MOST = 51


def relocated(
    opacities: Float[Tensor, "m"], scales: Float[Tensor, "m 3"], counts: Int[Tensor, "m"]
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m 3"]]:
    """Opacity and scale of each of `counts` Gaussians that together look like one (eq. 9)."""
    counts = counts.clamp(1, MOST)
    new = 1 - (1 - opacities.double()).pow(1 / counts)
    total = torch.zeros_like(new)
    for i in range(1, int(counts.max()) + 1 if len(counts) else 1):
        for k in range(i):
            term = comb(i - 1, k) * (-1) ** k / (k + 1) ** 0.5
            total += torch.where(counts >= i, term * new.pow(k + 1), 0.0)
    coefficient = opacities / total.clamp_min(1e-12)
    return new.to(opacities), (coefficient[:, None] * scales).to(scales)


def position_noise(
    covars: Float[Tensor, "n 3 3"], opacities: Float[Tensor, "n"], lr: float
) -> Float[Tensor, "n 3"]:
    """Steps for the means, along the Gaussian's own shape and only for faint ones (eq. 8);
    `lr` is the means' learning rate times 5e5."""
    faint = torch.sigmoid(100 * ((1 - opacities) - 0.995))
    steps = torch.randn(len(opacities), 3) * (faint * lr)[:, None]
    return torch.einsum("nij,nj->ni", covars, steps)
