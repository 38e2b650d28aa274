"""The frame that scenes are saved in: scale, up axis and origin that a user has picked."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.formats import NamedCamera
from recon.precision import WORLD, Origin
from render import Cameras, Gaussians, Sim3

UP_AXES: dict[str, tuple[float, float, float]] = {
    "-y": (0.0, -1.0, 0.0), "+y": (0.0, 1.0, 0.0), "+z": (0.0, 0.0, 1.0),
}  # fmt: skip


def rotation_between(src: Float[Tensor, "3"], dst: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Return the smallest rotation that takes one direction to another (Rodrigues' formula)."""
    a, b = (torch.nn.functional.normalize(each.double(), dim=0) for each in (src, dst))
    cosine = float(a @ b)
    if cosine < -1 + 1e-9:
        # Half a rotation about any axis that is orthogonal to both.
        other = torch.eye(3, dtype=torch.float64)[int(a.abs().argmin())]
        axis = torch.nn.functional.normalize(torch.linalg.cross(a, other), dim=0)
        return 2 * torch.outer(axis, axis) - torch.eye(3, dtype=torch.float64)
    x, y, z = torch.linalg.cross(a, b).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + cross + cross @ cross / (1 + cosine)


@dataclass(frozen=True)
class Alignment:
    """Where the frame to save in differs from that of the scenes."""

    scale: float = 1.0
    """Units of the new frame per unit of the scenes."""
    up: tuple[float, float, float] | None = None
    """Direction in the scenes that is up; None keeps the axes."""
    up_axis: str = "-y"
    """Axis of the new frame that is up, of UP_AXES."""
    origin: tuple[float, float, float] | None = None
    """World coordinates of the point that becomes the origin; None keeps it."""

    def transform(self) -> Sim3 | None:
        """Return the new frame from the world of the scenes, float64; None if it is the same."""
        if self == Alignment(up_axis=self.up_axis):
            return None
        identity = Sim3.identity(torch.float64)
        rotmat = identity.rotmat
        if self.up is not None:
            rotmat = rotation_between(torch.tensor(self.up), torch.tensor(UP_AXES[self.up_axis]))
        moved = replace(identity, scale=identity.scale * self.scale, rotmat=rotmat)
        if self.origin is None:
            return moved
        return replace(
            moved, translation=-moved.apply(torch.tensor(self.origin, dtype=torch.float64))
        )

    def applied(
        self,
        gaussians: Gaussians,
        origin: Origin,
        start: Cameras | None,
        cameras: tuple[NamedCamera, ...],
    ) -> tuple[Gaussians, Origin, Cameras | None, tuple[NamedCamera, ...]]:
        """Express a scene in the new frame.

        Args:
            gaussians: Relative to `origin`.
            origin: World coordinates of that point.
            start: Camera to start from, in the world, float64.
            cameras: Further cameras in the world, float64.
        """
        moved = self.transform()
        if moved is None:
            return gaussians, origin, start, cameras
        # Far from zero only the origin moves; where it comes near, it is added to the positions.
        target = moved.apply(torch.tensor(origin, dtype=torch.float64))
        local = replace(moved, translation=torch.zeros(3, dtype=torch.float64))
        x, y, z = target.tolist()
        found: Origin = (x, y, z)
        if origin == WORLD or self.origin is not None:
            local, found = replace(local, translation=target), WORLD
        as_floats = Sim3(local.scale.float(), local.rotmat.float(), local.translation.float())
        return (
            gaussians.transformed(as_floats),
            found,
            None if start is None else start.transformed(moved),
            tuple(replace(each, camera=each.camera.transformed(moved)) for each in cameras),
        )
