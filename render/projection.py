"""Projection of Gaussians into one camera, with each step in its own function.

Semantics of gsplat 1.5.3 (`fully_fused_projection`), after EWA splatting (Zwicker et
al. 2001) and 3D Gaussian Splatting (Kerbl et al. 2023).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Directions are clamped this far outside the image before the projection is made
# linear, so that Gaussians beside the camera do not explode (gsplat, INRIA code).
FIELD_MARGIN = 0.3
# Culling looks no farther (gsplat): at opacity 1, alpha falls to 1/255 at 3.33 sigma.
MAX_EXTENT = 3.33


def projection_jacobian(
    local: Float[Tensor, "n 3"], K: Float[Tensor, "3 3"], width: int, height: int
) -> Float[Tensor, "n 2 3"]:
    """Differentiate the pixel with respect to the camera-space point (Zwicker et al., eq. 29)."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    x, y, z = local.unbind(-1)
    margin_x, margin_y = FIELD_MARGIN * 0.5 * width / fx, FIELD_MARGIN * 0.5 * height / fy
    slope_x = torch.clamp(x / z, -cx / fx - margin_x, (width - cx) / fx + margin_x)
    slope_y = torch.clamp(y / z, -cy / fy - margin_y, (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    return torch.stack(
        [
            torch.stack([fx / z, zero, -fx * slope_x / z], -1),
            torch.stack([zero, fy / z, -fy * slope_y / z], -1),
        ],
        -2,
    )


def project_covars(
    covars: Float[Tensor, "n 3 3"], jacobian: Float[Tensor, "n 2 3"], rotmat: Float[Tensor, "3 3"]
) -> Float[Tensor, "n 2 2"]:
    """Compute image covariances J W V W^T J^T in px^2 (Kerbl et al. 2023, eq. 5)."""
    to_image = jacobian @ rotmat
    return to_image @ covars @ to_image.mT


def widen(
    covars2d: Float[Tensor, "n 2 2"], eps2d: float
) -> tuple[Float[Tensor, "n 2 2"], Float[Tensor, " n"]]:
    """Add eps2d to covariances; also return the antialiasing factor, sqrt(det before / after)."""
    det_before = _determinant(covars2d)
    widened = covars2d + eps2d * torch.eye(2, dtype=covars2d.dtype, device=covars2d.device)
    ratio = det_before / _determinant(widened)
    # The square root has no finite slope at 0, where flat Gaussians seen edge-on lie.
    positive = ratio > 0
    factor = torch.where(positive, torch.where(positive, ratio, 1.0).sqrt(), 0.0)
    return widened, factor


def conics_of(covars2d: Float[Tensor, "n 2 2"]) -> Float[Tensor, "n 3"]:
    """Invert covariances to (a, b, c): sigma = (a dx^2 + c dy^2) / 2 + b dx dy."""
    det = _determinant(covars2d)
    entries = [covars2d[:, 1, 1], -covars2d[:, 0, 1], covars2d[:, 0, 0]]
    return torch.stack(entries, -1) / det[:, None]


def extents_of(
    opacities: Float[Tensor, " n"], alpha_min: float
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Compute how many sigmas away alpha falls to alpha_min, and whether it ever exceeds it."""
    visible = opacities >= alpha_min
    extent = (2 * (opacities.clamp_min(alpha_min) / alpha_min).log()).sqrt()
    return extent, visible


def _determinant(matrices: Float[Tensor, "n 2 2"]) -> Float[Tensor, " n"]:
    return matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]
