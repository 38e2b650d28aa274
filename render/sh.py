"""Real spherical harmonics up to degree 4, in the order and signs of 3D Gaussian Splatting.

The basis is that of Sloan, "Efficient Spherical Harmonic Evaluation" (JCGT 2013),
which gsplat and the INRIA code use; coefficient-major, colour last.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from render.directions import spread_directions

MAX_DEGREE = 4
C0 = 0.28209479177387814
# Number of sample directions from which the matrices of rotations are solved.
SAMPLES = 64


def num_coefficients(degree: int) -> int:
    """Count the coefficients of all bands up to `degree`."""
    return (degree + 1) ** 2


def degree_of(coefficients: int) -> int:
    """Return the degree with this number of coefficients; raise ValueError if there is none."""
    degree = math.isqrt(coefficients) - 1
    if num_coefficients(degree) != coefficients or not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"expected 1, 4, 9, 16 or 25 SH coefficients, got {coefficients}")
    return degree


def sh_basis(degree: int, dirs: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b k"]:
    """Evaluate the (degree + 1)^2 basis functions at unit directions."""
    x, y, z = dirs.unbind(-1)
    bands = [[torch.full_like(x, C0)]]
    if degree >= 1:
        c = 0.4886025119029199
        bands.append([-c * y, c * z, -c * x])
    if degree >= 2:
        bands.append(_band2(x, y, z))
    if degree >= 3:
        bands.append(_band3(x, y, z))
    if degree >= 4:
        bands.append(_band4(x, y, z))
    return torch.stack([value for band in bands for value in band], -1)


def _band2(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    c = 1.0925484305920792
    return [
        c * x * y,
        -c * y * z,
        0.31539156525252005 * (2 * z * z - x * x - y * y),
        -c * x * z,
        0.5462742152960396 * (x * x - y * y),
    ]


def _band3(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    return [
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]


def _band4(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    return [
        2.5033429417967046 * x * y * (xx - yy),
        -1.7701307697799304 * y * z * (3 * xx - yy),
        0.9461746957575601 * x * y * (7 * zz - 1),
        -0.6690465435572892 * y * z * (7 * zz - 3),
        0.10578554691520431 * (zz * (35 * zz - 30) + 3),
        -0.6690465435572892 * x * z * (7 * zz - 3),
        0.47308734787878004 * (xx - yy) * (7 * zz - 1),
        -1.7701307697799304 * x * z * (xx - 3 * yy),
        0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
    ]


def sh_to_colors(sh: Float[Tensor, "*b k 3"], dirs: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Evaluate display colours along unit directions: max(0, 0.5 + sum_k basis_k sh_k)."""
    basis = sh_basis(degree_of(sh.shape[-2]), dirs)
    return ((basis[..., None] * sh).sum(-2) + 0.5).clamp_min(0)


def colors_to_sh(colors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 1 3"]:
    """Convert colours to coefficients of degree 0, the same from all directions."""
    return ((colors - 0.5) / C0)[..., None, :]


def rotate_sh(sh: Float[Tensor, "*b k 3"], rotmat: Float[Tensor, "3 3"]) -> Float[Tensor, "*b k 3"]:
    """Rotate the function of the coefficients by `rotmat`: out(R d) = sh(d).

    Each band is rotated within itself. Its matrix is found exactly, up to rounding,
    by solving for the band at sample directions, in float64.
    """
    degree = degree_of(sh.shape[-2])
    dirs = spread_directions(SAMPLES).to(sh.device)
    before = sh_basis(degree, dirs)
    after = sh_basis(degree, dirs @ rotmat.detach().double().T)
    rotated = []
    for band in range(degree + 1):
        rows = slice(band * band, (band + 1) ** 2)
        # after @ out = before @ sh for every sample direction.
        matrix = torch.linalg.lstsq(after[:, rows], before[:, rows]).solution
        rotated.append(matrix.to(sh) @ sh[..., rows, :])
    return torch.cat(rotated, -2)
