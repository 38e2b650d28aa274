"""Similarity transforms of the world: rotation, scale, translation."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Sim3:
    """Similarity transform `dst = scale * rotmat @ src + translation` between two frames."""

    scale: Float[Tensor, ""]
    rotmat: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]

    @staticmethod
    def identity(dtype: torch.dtype = torch.float32) -> "Sim3":
        """Return the identity transform."""
        return Sim3(
            torch.ones((), dtype=dtype), torch.eye(3, dtype=dtype), torch.zeros(3, dtype=dtype)
        )

    def apply(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        """Transform points of the source frame to the destination frame."""
        return self.scale * points @ self.rotmat.T + self.translation

    def after(self, first: "Sim3") -> "Sim3":
        """Return the transform that applies another one first, then this one."""
        return Sim3(
            self.scale * first.scale, self.rotmat @ first.rotmat, self.apply(first.translation)
        )

    def inverse(self) -> "Sim3":
        """Return the transform from the destination frame to the source frame."""
        return Sim3(1 / self.scale, self.rotmat.T, -(self.rotmat.T @ self.translation) / self.scale)
