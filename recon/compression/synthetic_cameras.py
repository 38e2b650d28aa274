"""Synthetic evaluation cameras for scenes without a capture."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.start_camera import fitted
from render import Cameras, Gaussians
from render.cameras import look_at
from render.directions import spread_directions
from render.guess import default_camera
from render.paths import focus_point, wave

SPHERE_VIEWS, WAVE_VIEWS, IMAGE_PX, SPHERE_FOV_DEG = 12, 6, 512, 50.0
# Distance of the close-ups from the focus point, as a fraction of that of the estimated capture
# position. Photos are taken at several distances, and pixels of the nearest ones are finer than
# those of a camera that sees the whole scene.
CLOSE_UP_DISTANCE = 0.6


def synthetic_cameras(
    scene: Gaussians, start: Cameras | None = None
) -> tuple[Cameras, Cameras, Cameras]:
    """Create three groups of cameras: a sphere, the pose of the capture, and close-ups.

    Args:
        scene: The Gaussians.
        start: One camera of the capture, in their frame; None guesses one.
    """
    if start is None:
        guess = default_camera(scene, IMAGE_PX, IMAGE_PX)
    else:
        guess = fitted(start, IMAGE_PX, IMAGE_PX).to(scene.device)
    near = _moved_closer(guess, focus_point(scene, guess))
    return sphere_cameras(scene), wave(scene, guess, WAVE_VIEWS), wave(scene, near, WAVE_VIEWS)


def _moved_closer(camera: Cameras, focus: Float[Tensor, "3"]) -> Cameras:
    viewmats = camera.viewmats.clone()
    viewmats[:, 2, 3] -= (1 - CLOSE_UP_DISTANCE) * (focus - camera.centers[0]).norm()
    return replace(camera, viewmats=viewmats)


def sphere_cameras(scene: Gaussians) -> Cameras:
    """Create cameras spread evenly (Fibonacci) on a sphere around the scene, facing its centre."""
    low, middle, high = (
        torch.quantile(scene.means[:: max(1, len(scene) // 100_000)], q, dim=0)
        for q in (0.05, 0.5, 0.95)
    )
    radius = float((high - low).norm()) / 2
    distance = max(radius / math.sin(math.radians(SPHERE_FOV_DEG) / 2), 1e-6)
    # Rows of cameras at one height, y.
    outward = spread_directions(SPHERE_VIEWS)[:, [0, 2, 1]].to(scene.means)
    up = outward.new_tensor([0.0, -1.0, 0.0])
    viewmats = torch.stack([look_at(middle + distance * each, middle, up) for each in outward])
    return Cameras.from_fov(viewmats, SPHERE_FOV_DEG, IMAGE_PX, IMAGE_PX)
