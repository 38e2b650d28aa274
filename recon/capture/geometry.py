"""Geometry and checks that the capture readers share, in float64."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.types import DistortionModel
from recon.errors import InputError, warn

# Largest deviation of R R^T from the identity that counts as rounding.
ROTATION_TOLERANCE = 1e-2
# Focal length over the long side: below the first, the field of view is over 157 degrees, above the
# second, below 1.2 degrees. It is given in another unit, most often as a fraction of the width.
MIN_FOCAL_RATIO, MAX_FOCAL_RATIO = 0.1, 50.0


class Intrinsics(NamedTuple):
    """Pinhole intrinsics as files give them (px)."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


def viewmat_from_c2w(c2w: Float[np.ndarray, "4 4"], where: str) -> Float[Tensor, "4 4"]:
    """Invert a rigid camera-to-world matrix, OpenCV axes.

    The upper left part, which files round, is replaced by the nearest rotation.

    Args:
        c2w: Camera-to-world matrix.
        where: Origin of the matrix, for error messages.

    Raises:
        InputError: The matrix is not finite, or more than 1 % off a rotation.
    """
    if not np.isfinite(c2w).all():
        raise InputError(
            f"{where} has NaN or infinite values; expected a finite camera-to-world matrix; "
            "correct or remove this frame"
        )
    rotmat = c2w[:3, :3]
    error = float(np.abs(rotmat @ rotmat.T - np.eye(3)).max())
    determinant = float(np.linalg.det(rotmat))
    if error > ROTATION_TOLERANCE or determinant < 0:
        kind = "mirrored" if error <= ROTATION_TOLERANCE else f"off a rotation by {error:.2g}"
        raise InputError(
            f"{where} is {kind} (determinant {determinant:.3g}); expected a camera-to-world "
            "matrix whose upper left 3x3 part is a rotation, without scale or mirror; "
            "correct the export"
        )
    left, _, right = np.linalg.svd(rotmat)
    rotmat = left @ right
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotmat.T
    viewmat[:3, 3] = -rotmat.T @ c2w[:3, 3]
    return torch.from_numpy(viewmat)


def c2w_from_viewmat(viewmat: Float[Tensor, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """Invert a world-to-camera matrix, OpenCV axes."""
    view = viewmat.double().numpy()
    c2w = np.eye(4)
    c2w[:3, :3] = view[:3, :3].T
    c2w[:3, 3] = -view[:3, :3].T @ view[:3, 3]
    return c2w


def checked_K(values: Intrinsics, where: str) -> Float[Tensor, "3 3"]:
    """Return K without skew, float64; InputError, naming `where`, if it contradicts the size.

    A principal point of exactly 0, 0 is the image centre that an exporter left empty; one warning.
    """
    fx, fy, cx, cy, width, height = values
    if not all(math.isfinite(value) for value in values):
        raise InputError(
            f"{where}: focal length and principal point must be finite, found {values}"
        )
    if width <= 0 or height <= 0:
        raise InputError(
            f"{where}: width and height must be above 0 px, found {width} x {height}; "
            "leave them out to use the size of the image"
        )
    if fx <= 0 or fy <= 0:
        raise InputError(f"{where}: the focal length must be above 0 px, found {fx:g}, {fy:g}")
    ratios = fx / max(width, height), fy / max(width, height)
    if min(ratios) < MIN_FOCAL_RATIO or max(ratios) > MAX_FOCAL_RATIO:
        raise InputError(
            f"{where}: a focal length of {fx:g}, {fy:g} px contradicts the size "
            f"{width} x {height}; expected pixels of that size"
        )
    if cx == 0 and cy == 0:
        cx, cy = width / 2, height / 2
        # Without `where`, so that cameras of many photos give the same line, which is shown once.
        warn(
            "the principal point of cameras is 0, 0, as of an export that leaves it empty; "
            "the image centre is used"
        )
    # A crop may have its principal point outside, but not by far.
    if not (-0.5 <= cx / width <= 1.5 and -0.5 <= cy / height <= 1.5):
        raise InputError(
            f"{where}: the principal point {cx:g}, {cy:g} px contradicts the size "
            f"{width} x {height}; expected pixels of that size"
        )
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def canonical_distortion(
    model: DistortionModel, coefficients: tuple[float, ...]
) -> tuple[DistortionModel, tuple[float, ...]]:
    """Return the canonical form of a distortion: 8 coefficients for opencv, 4 for fisheye.

    An opencv distortion with coefficients of 0 becomes `none`.
    """
    if model == "none" or (model == "opencv" and not any(coefficients)):
        return "none", ()
    length = 8 if model == "opencv" else 4
    return model, coefficients + (0.0,) * (length - len(coefficients))
