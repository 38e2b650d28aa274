"""Fewer spherical harmonics, with colours fitted again to where a scene is looked at from."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from recon.simplify.importance import contribution
from render import Cameras, Gaussians
from render.sh import degree_of, num_coefficients, sh_basis

# How much the coefficients want to stay, beside what the views want of them: directions that no
# view has keep their mean colour.
STAY = 0.01
CHUNK = 65_536


def lower_sh(gaussians: Gaussians, degree: int, cameras: Cameras) -> Gaussians:
    """The scene with spherical harmonics up to `degree` only, which show as nearly as possible
    what all of them show from these cameras.

    Least squares over the cameras, weighted by the part of the pictures that a Gaussian fills, for
    each Gaussian. Truncation, which is the same for views from everywhere, is the start.
    """
    if degree >= gaussians.sh_degree:
        return gaussians
    weights = torch.stack(
        [contribution(gaussians, cameras[[view]]) for view in range(len(cameras))], -1
    )
    parts = [
        _fitted(
            gaussians.means[rows], gaussians.sh[rows], weights[rows], cameras.centers, degree
        )
        for rows in torch.arange(len(gaussians), device=gaussians.device).split(CHUNK)
    ]  # fmt: skip
    return replace(gaussians, sh=torch.cat(parts))


def _fitted(
    means: Float[Tensor, "n 3"],
    sh: Float[Tensor, "n k 3"],
    weights: Float[Tensor, "n v"],
    centers: Float[Tensor, "v 3"],
    degree: int,
) -> Float[Tensor, "n l 3"]:
    kept = num_coefficients(degree)
    basis = sh_basis(degree_of(sh.shape[1]), normalize(means[:, None] - centers, dim=-1))
    low, missing = basis[..., :kept], basis[..., kept:] @ sh[:, kept:]
    share = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
    weighted = low.mT * share[:, None]
    normal = weighted @ low + STAY * torch.eye(kept).to(sh)
    return sh[:, :kept] + torch.linalg.solve(normal, weighted @ missing)
