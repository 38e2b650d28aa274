"""Small shared maths of the capture readers, float64."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.errors import ReconError

# OpenGL cameras look along -z with y up; ours along +z with y down.
OPENGL_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def viewmat_from_c2w(c2w: np.ndarray, where: str) -> Float[Tensor, "4 4"]:
    """Closed-form inverse of a rigid world-from-camera matrix, OpenCV axes.

    ReconError, naming `where`, unless the matrix is finite and its upper left part a
    rotation within 1 %.
    """
    if not np.isfinite(c2w).all():
        raise ReconError(f"{where} has NaN or infinite values; expected a finite camera matrix")
    rotmat = c2w[:3, :3]
    error = np.abs(rotmat @ rotmat.T - np.eye(3)).max()
    if error > 1e-2 or np.linalg.det(rotmat) < 0:
        kind = "mirrored" if error <= 1e-2 else f"off a rotation by {error:.2g}"
        raise ReconError(
            f"{where} is {kind}; expected a rigid camera-to-world matrix without scale or mirror"
        )
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotmat.T
    viewmat[:3, 3] = -rotmat.T @ c2w[:3, 3]
    return torch.from_numpy(viewmat)


def c2w_from_viewmat(viewmat: Float[Tensor, "4 4"]) -> np.ndarray:
    """World from camera, OpenCV axes."""
    view = viewmat.double().numpy()
    c2w = np.eye(4)
    c2w[:3, :3] = view[:3, :3].T
    c2w[:3, 3] = -view[:3, :3].T @ view[:3, 3]
    return c2w


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> Float[Tensor, "3 3"]:
    """K without skew, float64."""
    rows = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)
