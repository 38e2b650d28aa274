"""Corrections of the cameras' poses, learned with the scene that they see.

Bundle adjustment by rendering: the photometric error has a gradient with respect to the view
matrices (as in BARF, Lin et al. 2021, section 3, without its coarse-to-fine encoding: the scene
starts from a prediction).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.optimisation.adam import Adam
from render import Cameras
from render.quaternions import quats_to_rotmats

# Corrections whose median displacement of the image is less are the noise of the optimisation.
MIN_DISPLACEMENT_PX = 0.5
MAX_POINTS = 20_000


class CameraCorrections:
    """A small rotation and a shift of each camera, in the world frame, with their optimiser."""

    def __init__(self, cameras: Cameras, points: Float[Tensor, "n 3"], lr: float) -> None:
        """Start without a correction.

        Args:
            cameras: Cameras to correct.
            points: Points of the scene, whose median depth in each camera its shifts are relative
                to.
            lr: Initial learning rate (radians, and fractions of the depth).
        """
        self.given, self.depth, self.lr = cameras, _median_depths(cameras, points), lr
        self.vectors = [
            torch.zeros(6, device=cameras.device, requires_grad=True) for _ in range(len(cameras))
        ]
        # One for each view: those without a gradient are left alone.
        self.adams = [Adam(vector.detach()) for vector in self.vectors]

    def camera(self, view: int) -> Cameras:
        """Return the corrected camera of a view, differentiable with respect to the correction."""
        with torch.enable_grad():
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
        for vector, adam in zip(self.vectors, self.adams, strict=True):
            if vector.grad is not None:
                adam.step(vector.grad, lr_factor * self.lr)
                vector.grad = None
        with torch.no_grad():
            unit = torch.cat([torch.ones_like(self.depth)[:, None], self.depth[:, None]], 1)
            unit = unit.repeat_interleave(3, 1)
            world = unit * torch.stack(self.vectors)
            for vector, mean in zip(
                self.vectors, world.mean(0) / unit.clamp_min(1e-30), strict=True
            ):
                vector -= mean

    def is_noise(self) -> bool:
        """Return whether the corrections move the images less than an optimisation does anyway."""
        lengths = torch.stack([vector.detach().norm() for vector in self.vectors])
        return float((self.given.Ks[:, 0, 0] * lengths).median()) < MIN_DISPLACEMENT_PX


def _median_depths(cameras: Cameras, points: Float[Tensor, "n 3"]) -> Float[Tensor, " v"]:
    """Compute the median depth of the points that each camera sees; 0 if it sees none."""
    points = points[:: 1 + len(points) // MAX_POINTS]
    depths = torch.zeros(len(cameras), device=cameras.device)
    for view, camera in enumerate(cameras):
        pixels, depth = camera.project(points)
        seen = camera.contains(pixels, depth)
        if bool(seen.any()):
            depths[view] = depth[seen].median()
    return depths


def _corrected(
    cameras: Cameras, vectors: Float[Tensor, "n 6"], depth: Float[Tensor, " n"]
) -> Cameras:
    """Rotate cameras about their centres by small rotation vectors, and shift them."""
    rotations, shifts = vectors.split(3, 1)
    quats = torch.cat([torch.ones_like(shifts[:, :1]), 0.5 * rotations], 1)
    rotated = quats_to_rotmats(torch.nn.functional.normalize(quats, dim=-1))
    viewmats = cameras.viewmats.reshape(-1, 4, 4)
    rotmats = viewmats[:, :3, :3] @ rotated.mT
    centers = cameras.centers.reshape(-1, 3) + depth[:, None] * shifts
    top = torch.cat([rotmats, -rotmats @ centers[..., None]], -1)
    corrected = torch.cat([top, viewmats[:, 3:]], 1)
    return replace(cameras, viewmats=corrected.reshape(cameras.viewmats.shape))
