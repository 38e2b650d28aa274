"""Corrections of the cameras' poses, learned with the scene that they see.

Bundle adjustment by rendering: the photometric error has a gradient with respect to the view
matrices (as in BARF, Lin et al. 2021, section 3, without its coarse-to-fine encoding: the scene
starts from a prediction).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras
from render.quaternions import quats_to_rotmats

# Corrections whose median displacement of the image is less are the noise of the optimisation.
MIN_DISPLACEMENT_PX = 0.5


class CameraCorrections:
    """A small rotation and a shift of each camera, in the world frame, with their optimiser."""

    def __init__(self, cameras: Cameras, depth: Float[Tensor, "v"], lr: float) -> None:
        """Start without a correction.

        Args:
            cameras: Cameras to correct.
            depth: Typical depth that each camera sees (world units); shifts are relative to it.
            lr: Initial learning rate (radians, and fractions of the depth).
        """
        self.given, self.depth, self.lr = cameras, depth, lr
        # One tensor for each view: Adam leaves those without a gradient alone.
        self.vectors = [
            torch.zeros(6, device=cameras.device, requires_grad=True) for _ in range(len(cameras))
        ]
        self.adam = torch.optim.Adam(self.vectors, lr=lr, betas=(0.9, 0.99), eps=1e-15)

    def camera(self, view: int) -> Cameras:
        """Return the corrected camera of a view, differentiable with respect to the correction."""
        vector = self.vectors[view]
        return _corrected(self.given[view], vector[None], self.depth[view, None])

    @torch.no_grad()
    def cameras(self) -> Cameras:
        """Return all corrected cameras."""
        vectors = torch.stack([vector.detach() for vector in self.vectors])
        return _corrected(self.given, vectors, self.depth)

    def step(self, lr_factor: float) -> None:
        """Correct the cameras that have a gradient, and keep the mean of all where it was.

        A motion of all cameras together has no effect on the renders of a scene that moves along,
        but it would move the scene out of the frame of the given cameras.
        """
        self.adam.param_groups[0]["lr"] = lr_factor * self.lr
        self.adam.step()
        self.adam.zero_grad()
        with torch.no_grad():
            unit = torch.cat([torch.ones_like(self.depth)[:, None], self.depth[:, None]], 1)
            unit = unit.repeat_interleave(3, 1)
            world = unit * torch.stack(self.vectors)
            for vector, mean in zip(self.vectors, world.mean(0) / unit, strict=True):
                vector -= mean

    def displacement_px(self) -> float:
        """Return the median displacement of the images by the corrections (px)."""
        lengths = torch.stack([vector.detach().norm() for vector in self.vectors])
        return float((self.given.Ks[:, 0, 0] * lengths).median())


def _corrected(
    cameras: Cameras, vectors: Float[Tensor, "n 6"], depth: Float[Tensor, "n"]
) -> Cameras:
    """Rotate cameras about their centres by small rotation vectors, and shift them."""
    rotations, shifts = vectors.split(3, 1)
    quats = torch.cat([torch.ones_like(shifts[:, :1]), 0.5 * rotations], 1)
    turned = quats_to_rotmats(torch.nn.functional.normalize(quats, dim=-1))
    viewmats = cameras.viewmats.reshape(-1, 4, 4)
    rotmats = viewmats[:, :3, :3] @ turned.mT
    centers = cameras.centers.reshape(-1, 3) + depth[:, None] * shifts
    top = torch.cat([rotmats, -rotmats @ centers[..., None]], -1)
    corrected = torch.cat([top, viewmats[:, 3:]], 1)
    return replace(cameras, viewmats=corrected.reshape(cameras.viewmats.shape))
