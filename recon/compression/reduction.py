"""Reduction of the SH degree and of the number of Gaussians, fitted to the training views."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from recon.compression.objective import RateDistortionObjective
from recon.optimisation.config import OptimiseConfig
from recon.optimisation.loop import optimise
from recon.simplification.config import SimplifyConfig
from recon.simplification.decimation import contribution, importance_order, simplify
from render import Cameras, Gaussians
from render.sh import degree_of, num_coefficients, sh_basis

# Weight of the regularisation towards truncation: directions that no view sees keep their mean
# colour.
RIDGE = 0.01
CHUNK = 65_536
# Clusters to merge (px), larger than those used when a scene is made.
CLUSTER_SIZES_PX = (2.0, 4.0, 8.0, 16.0)
# Renderings of the scene itself need no exposure.
FINE_TUNING = OptimiseConfig(lr_scale=0.04, lr_quat=0.02, lr_mean=0.1, lr_exposure=0.0)
# Adam's steps do not depend on the size of the error, so its learning rates are scaled with the
# square root of the images' RMS change; those above belong to this mean squared change.
FULL_LR_CHANGE = 2e-3
# Fewer Gaussians take more steps, in about the time that these take on the whole scene.
STEPS_WHOLE, MAX_STEPS = 64, 320


def reduce_sh(gaussians: Gaussians, degree: int, cameras: Cameras) -> Gaussians:
    """Reduce spherical harmonics to a degree, with the least change of the cameras' images.

    A ridge regression for each Gaussian over the cameras, weighted by its contribution to their
    images. The prior is truncation, which is optimal for views from all directions.
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
    fraction = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
    weighted = low.mT * fraction[:, None]
    normal = weighted @ low + RIDGE * torch.eye(kept).to(sh)
    correction: Tensor = torch.linalg.solve(normal, weighted @ missing)
    return sh[:, :kept] + correction


def reduce_count(scene: Gaussians, count: int, objective: RateDistortionObjective) -> Gaussians:
    """Reduce a scene to at most `count` Gaussians: prune, merge, and fine-tune the rest."""
    if count >= len(scene):
        return scene
    cameras = objective.train_views.cameras
    config = SimplifyConfig(fraction=1 - count / len(scene), cluster_sizes_px=CLUSTER_SIZES_PX)
    smaller = simplify(scene, cameras, config)
    # Where nothing is left to merge, the least important ones are pruned.
    if len(smaller) > count:
        smaller = smaller[importance_order(smaller, cameras)[:count]]
    change = objective.change(smaller)
    if change == 0:
        return smaller
    steps = min(round(STEPS_WHOLE * len(scene) / len(smaller)), MAX_STEPS)
    tuning = replace(FINE_TUNING.scale_lrs((change / FULL_LR_CHANGE) ** 0.25), steps=steps)
    antialiased = objective.settings.antialiased
    return optimise(smaller, objective.train_views, tuning, antialiased=antialiased).gaussians
