"""Widening of Gaussians that viser's shader would discard for being too small.

viser 1.1 discards a Gaussian where opacity * det(projected covariance + 0.3 I) < 0.25 px^4: at full
opacity what is narrower than 0.45 px, at 0.1 what is narrower than 1.13 px. Scenes with a Gaussian
per pixel would vanish when seen from farther away.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.projection import project_covars, projection_jacobian

# Smallest opacity * det (px^4) after widening, a little above the shader's threshold.
MIN_OPACITY_DET = 0.27
BLUR_PX2 = 0.3
# Nothing is widened beyond this determinant (px^4): it would be visible as a blob.
MAX_DET = 30.0


def filter_small(
    gaussians: Gaussians, camera: Cameras
) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, " n"]]:
    """Return world covariances and opacities that viser renders as our rasterizer does.

    A Gaussian that would be discarded becomes wider and more transparent, so that opacity times
    area, as blurred by 0.3 px^2, is conserved: a^2 det = a0^2 det0, and a det = MIN_OPACITY_DET, so
    det = MIN_OPACITY_DET^2 / (a0^2 det0).
    """
    covars = gaussians.covars()
    viewmat, K = camera.viewmats[0], camera.Ks[0]
    local = gaussians.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    in_front = local[:, 2] > 1e-6
    local = torch.where(in_front[:, None], local, local.new_tensor([0.0, 0.0, 1.0]))
    jacobian = projection_jacobian(local, K, camera.width, camera.height)
    flat = project_covars(covars, jacobian, viewmat[:3, :3])
    a, b, c = flat[:, 0, 0] + BLUR_PX2, flat[:, 0, 1], flat[:, 1, 1] + BLUR_PX2
    det = (a * c - b * b).clamp_min(1e-12)
    opacity = gaussians.opacities.clamp_min(1e-4)
    wanted = (MIN_OPACITY_DET**2 / (opacity.square() * det)).clamp_max(MAX_DET)
    discarded = in_front & (opacity * det < MIN_OPACITY_DET) & (wanted > det)
    # Solve det(flat + v J J^T) = wanted for the variance v, which is added to all world axes.
    p, q, r = (jacobian[:, i] * jacobian[:, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    p, q, r = p.sum(-1), q.sum(-1), r.sum(-1)
    square, half = p * r - q * q, 0.5 * (a * r + c * p - 2 * b * q)
    more = (-half + (half.square() + square * (wanted - det)).clamp_min(0).sqrt()) / square
    more = torch.where(discarded, more, 0.0)
    wider = covars + more[:, None, None] * torch.eye(3).to(covars)
    opacities = torch.where(discarded, opacity * (det / wanted).sqrt(), gaussians.opacities)
    return wider, opacities.clamp(0, 1)
