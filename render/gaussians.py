"""The scene: a set of 3D Gaussians, always activated in memory."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from render.quaternions import multiply_quats, quats_to_rotmats, rotmats_to_quats
from render.sh import degree_of, rotate_sh
from render.sim3 import Sim3
from render.tensors import TensorStruct


@dataclass(frozen=True)
class Gaussians(TensorStruct, axis="n"):
    """3D Gaussians in the world frame (Kerbl et al. 2023, "3D Gaussian Splatting").

    Values are activated: scales are linear standard deviations in world units and
    opacities lie in [0, 1]; log, logit and f_dc exist only inside `recon.formats`.
    `*n` in the shapes stands for any batch axes followed by n, the Gaussians.
    """

    means: Float[Tensor, "*n 3"]
    """Centres (world units)."""
    quats: Float[Tensor, "*n 4"]
    """Unit quaternions, (w, x, y, z): world from the Gaussian's own axes."""
    scales: Float[Tensor, "*n 3"]
    """Standard deviations along the Gaussian's own axes (world units)."""
    opacities: Float[Tensor, "*n"]
    """Alpha at the centre, 0 to 1."""
    sh: Float[Tensor, "*n k 3"]
    """Colour = 0.5 + C0 sh[0] + ..., display sRGB; k = (degree + 1)^2."""

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 4."""
        return degree_of(self.sh.shape[-2])

    def cut_sh(self, degree: int) -> "Gaussians":
        """Drop the spherical harmonics above a degree."""
        return replace(self, sh=self.sh[..., : (degree + 1) ** 2, :])

    def extend_sh(self, degree: int) -> "Gaussians":
        """Add spherical harmonics of 0 up to a degree, if there are fewer."""
        missing = max((degree + 1) ** 2 - self.sh.shape[-2], 0)
        return replace(self, sh=torch.nn.functional.pad(self.sh, (0, 0, 0, missing)))

    def covars(self) -> Float[Tensor, "*b n 3 3"]:
        """Compute world covariances R S S^T R^T (Kerbl et al. 2023, eq. 6)."""
        half = quats_to_rotmats(self.quats) * self.scales[..., None, :]
        return half @ half.mT

    def transformed(self, dst_from_src: Sim3) -> "Gaussians":
        """Express the scene in another world frame: means, orientations and SH are rotated."""
        quat = rotmats_to_quats(dst_from_src.rotmat)
        return Gaussians(
            means=dst_from_src.apply(self.means),
            quats=multiply_quats(quat.expand_as(self.quats), self.quats),
            scales=dst_from_src.scale * self.scales,
            opacities=self.opacities,
            sh=rotate_sh(self.sh, dst_from_src.rotmat),
        )

    def validate(self) -> None:
        """Raise a ValueError that names the first attribute with a wrong shape or value, if any."""
        self._check_shapes()
        for field in fields(self):
            values = getattr(self, field.name)
            bad = ~torch.isfinite(values)
            if bad.any():
                raise ValueError(f"Gaussians.{field.name} has {int(bad.sum())} non-finite values")
        zero = (self.quats == 0).all(-1)
        if zero.any():
            raise ValueError(f"Gaussians.quats has {int(zero.sum())} quaternions of length zero")
        if (self.scales < 0).any():
            raise ValueError("Gaussians.scales must be at least 0 (they are linear, not log)")
        if ((self.opacities < 0) | (self.opacities > 1)).any():
            raise ValueError("Gaussians.opacities must lie in [0, 1] (they are not logits)")

    def _check_shapes(self) -> None:
        if self.means.shape[-1:] != (3,):
            raise ValueError(
                f"Gaussians.means has shape {tuple(self.means.shape)}, expected (*n, 3)"
            )
        base = tuple(self.means.shape[:-1])
        expected = {"quats": (*base, 4), "scales": (*base, 3), "opacities": base}
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise ValueError(f"Gaussians.{name} has shape {found}, expected {shape}")
        if self.sh.shape[:-2] != base or self.sh.ndim < 2 or self.sh.shape[-1] != 3:
            letters = ", ".join(map(str, (*base, "k", 3)))
            raise ValueError(f"Gaussians.sh has shape {tuple(self.sh.shape)}, expected ({letters})")
        degree_of(self.sh.shape[-2])  # raises ValueError for another number of coefficients
