"""Gaussians that viser's shader would drop, made so wide that it does not.

viser 1.1 draws nothing where opacity * det(covariance in the picture + 0.3 I) < 0.25 px^4: at full
opacity what is narrower than 0.45 px, at 0.1 what is narrower than 1.13 px. Scenes with a Gaussian
a pixel would vanish when seen from farther away.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.projection import project_covars, projection_jacobian

# A little more than the shader asks for.
LEAST = 0.27
BLUR_PX2 = 0.3
# Wider than this (px^2, of covariance, both axes) nothing is made: it would be seen as a blob.
MAX_DET = 30.0


def surviving(
    gaussians: Gaussians, eye: Cameras
) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n"]]:
    """World covariances and opacities that viser shows from this eye as our rasterizer does.

    A dropped one gets wider and fainter so that opacity times area, as blurred by 0.3 px^2, stays:
    a^2 det = a0^2 det0, and a det = LEAST, so det = LEAST^2 / (a0^2 det0).
    """
    covars = gaussians.covars()
    viewmat, K = eye.viewmats[0], eye.Ks[0]
    local = gaussians.means @ viewmat[:3, :3].T + viewmat[:3, 3]
    ahead = local[:, 2] > 1e-6
    local = torch.where(ahead[:, None], local, local.new_tensor([0.0, 0.0, 1.0]))
    jacobian = projection_jacobian(local, K, eye.width, eye.height)
    flat = project_covars(covars, jacobian, viewmat[:3, :3])
    a, b, c = flat[:, 0, 0] + BLUR_PX2, flat[:, 0, 1], flat[:, 1, 1] + BLUR_PX2
    det = (a * c - b * b).clamp_min(1e-12)
    opacity = gaussians.opacities.clamp_min(1e-4)
    wanted = (LEAST**2 / (opacity.square() * det)).clamp_max(MAX_DET)
    dropped = ahead & (opacity * det < LEAST) & (wanted > det)
    # det(flat + v round) = wanted, for the variance v that is added to all axes in the world, which
    # is v J J^T in the picture.
    p, q, r = (jacobian[:, i] * jacobian[:, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    p, q, r = p.sum(-1), q.sum(-1), r.sum(-1)
    square, half = p * r - q * q, 0.5 * (a * r + c * p - 2 * b * q)
    more = (-half + (half.square() + square * (wanted - det)).clamp_min(0).sqrt()) / square
    more = torch.where(dropped, more, 0.0)
    wider = covars + more[:, None, None] * torch.eye(3).to(covars)
    fainter = torch.where(dropped, opacity * (det / wanted).sqrt(), gaussians.opacities)
    return wider, fainter.clamp(0, 1)
