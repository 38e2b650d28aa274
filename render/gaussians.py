"""The scene: a set of 3D Gaussians, always activated in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.quaternions import multiply_quats, quats_to_rotmats, rotmats_to_quats
from render.sh import degree_of, rotate_sh
from render.sim3 import Sim3


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians in the world frame (Kerbl et al. 2023, "3D Gaussian Splatting").

    Values are activated: scales are linear standard deviations in world units and
    opacities lie in [0, 1]; log, logit and f_dc exist only inside `recon.formats`.
    """

    means: Float[Tensor, "*b n 3"]
    quats: Float[Tensor, "*b n 4"]
    """Unit quaternions, (w, x, y, z): world from the Gaussian's own axes."""
    scales: Float[Tensor, "*b n 3"]
    opacities: Float[Tensor, "*b n"]
    sh: Float[Tensor, "*b n k 3"]
    """Colour = 0.5 + C0 sh[0] + ..., display sRGB; k = (degree + 1)^2."""

    def __len__(self) -> int:
        return self.means.shape[-2]

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 4."""
        return degree_of(self.sh.shape[-2])

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.means.device

    def _mapped(self, function) -> "Gaussians":
        return Gaussians(**{f.name: function(getattr(self, f.name)) for f in fields(self)})

    def to(self, *args) -> "Gaussians":
        """Move or cast every tensor, as `Tensor.to`."""
        return self._mapped(lambda tensor: tensor.to(*args))

    def detach(self) -> "Gaussians":
        """The same values without a graph."""
        return self._mapped(torch.Tensor.detach)

    def select(self, which: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> "Gaussians":
        """A subset by mask or by index; for scenes without batch axes."""
        return self._mapped(lambda tensor: tensor[which])

    def cut_sh(self, degree: int) -> "Gaussians":
        """Without spherical harmonics above a degree."""
        return replace(self, sh=self.sh[..., : (degree + 1) ** 2, :])

    @staticmethod
    def concatenate(parts: Sequence["Gaussians"]) -> "Gaussians":
        """One scene of several, in order; all without batch axes and of one SH degree."""
        return Gaussians(
            **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Gaussians)}
        )

    def covars(self) -> Float[Tensor, "*b n 3 3"]:
        """World covariances R S S^T R^T (Kerbl et al. 2023, eq. 6)."""
        half = quats_to_rotmats(self.quats) * self.scales[..., None, :]
        return half @ half.mT

    def transformed(self, dst_from_src: Sim3) -> "Gaussians":
        """The scene in another world frame: means, orientations and SH all turn."""
        quat = rotmats_to_quats(dst_from_src.rotmat)
        return Gaussians(
            means=dst_from_src.apply(self.means),
            quats=multiply_quats(quat.expand_as(self.quats), self.quats),
            scales=dst_from_src.scale * self.scales,
            opacities=self.opacities,
            sh=rotate_sh(self.sh, dst_from_src.rotmat),
        )

    def validate(self) -> None:
        """ValueError naming the first attribute that holds impossible values."""
        for field in fields(self):
            values = getattr(self, field.name)
            bad = ~torch.isfinite(values)
            if bad.any():
                raise ValueError(f"Gaussians.{field.name} has {int(bad.sum())} non-finite values")
        if (self.scales < 0).any():
            raise ValueError("Gaussians.scales must be at least 0 (they are linear, not log)")
        if ((self.opacities < 0) | (self.opacities > 1)).any():
            raise ValueError("Gaussians.opacities must lie in [0, 1] (they are not logits)")
