"""Quaternions in (w, x, y, z) order, as everywhere in memory."""

import torch
from jaxtyping import Float
from torch import Tensor


def quats_to_rotmats(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Convert quaternions (wxyz), which are normalised first, to rotation matrices."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def nearest_rotmats(matrices: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """Find the rotation matrices nearest to the given matrices.

    For a mean of rotation matrices this is their chordal mean (Hartley et al. 2013, "Rotation
    averaging", section 5.3).
    """
    u, _, vh = torch.linalg.svd(matrices)
    signs = torch.ones_like(matrices[..., 0])
    signs[..., 2] = torch.linalg.det(u @ vh)
    nearest: Tensor = u @ (signs[..., None] * vh)
    return nearest


def rotmats_to_quats(rotmats: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Convert rotation matrices to unit quaternions (wxyz, w >= 0).

    Each of w, x, y, z is tried as pivot and the best conditioned of the four
    solutions is used (Shepperd, "Quaternion from rotation matrix", 1978).
    Not meant to be differentiated at the switch between pivots.
    """
    m = rotmats
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 1, 0] + m[..., 0, 1],
        m[..., 2, 0] + m[..., 0, 2],
        m[..., 2, 1] + m[..., 1, 2],
    )
    ww, xx = 1 + m00 + m11 + m22, 1 + m00 - m11 - m22
    yy, zz = 1 - m00 + m11 - m22, 1 - m00 - m11 + m22
    candidates = torch.stack(
        [
            torch.stack([ww, wx, wy, wz], -1),
            torch.stack([wx, xx, xy, xz], -1),
            torch.stack([wy, xy, yy, yz], -1),
            torch.stack([wz, xz, yz, zz], -1),
        ],
        -2,
    )
    pivot = torch.stack([ww, xx, yy, zz], -1).argmax(-1)
    best = candidates.gather(-2, pivot[..., None, None].expand(*pivot.shape, 1, 4)).squeeze(-2)
    quats = torch.nn.functional.normalize(best, dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def multiply_quats(a: Float[Tensor, "*#b 4"], b: Float[Tensor, "*#b 4"]) -> Float[Tensor, "*b 4"]:
    """Multiply quaternions (wxyz, Hamilton product a b): rotation b followed by rotation a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def slerp(
    a: Float[Tensor, "*v 4"], b: Float[Tensor, "*v 4"], t: Float[Tensor, "*v 1"]
) -> Float[Tensor, "*v 4"]:
    """Interpolate along the shortest rotation from a to b (Shoemake 1985)."""
    dot = (a * b).sum(-1, keepdim=True)
    b, dot = torch.where(dot < 0, -b, b), dot.abs().clamp_max(1)
    angle = dot.arccos()
    near = angle < 1e-6
    sine = torch.where(near, 1.0, angle.sin())
    left = torch.where(near, 1 - t, ((1 - t) * angle).sin() / sine)
    right = torch.where(near, t, (t * angle).sin() / sine)
    return left * a + right * b
