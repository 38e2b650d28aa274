"""Cameras for scenes that come without."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.cameras import look_at
from render.directions import spread_directions
from render.guess import default_camera
from render.paths import focus_point, wave

# Of generated cameras. Photos are taken at several distances: what is as fine as a pixel of the
# nearest ones is finer than one from where all of the scene is in the picture.
SPHERE_VIEWS, WAVE_VIEWS, VIEW_PX, SPHERE_FOV_DEG = 12, 6, 512, 50.0
# Distance of what the nearer ones look at, as a part of the others'.
NEARER = 0.6


def imagined_cameras(scene: Gaussians) -> tuple[Cameras, Cameras, Cameras]:
    """From all around, from about where its photos may have been taken, and from nearer."""
    guess = default_camera(scene, VIEW_PX, VIEW_PX)
    near = _nearer(guess, focus_point(scene, guess))
    return sphere(scene), wave(scene, guess, WAVE_VIEWS), wave(scene, near, WAVE_VIEWS)


def _nearer(camera: Cameras, focus: Float[Tensor, "3"]) -> Cameras:
    viewmats = camera.viewmats.clone()
    viewmats[:, 2, 3] -= (1 - NEARER) * (focus - camera.centers[0]).norm()
    return replace(camera, viewmats=viewmats)


def sphere(scene: Gaussians) -> Cameras:
    """Cameras all around, evenly spread (Fibonacci), looking at the middle; for scenes without."""
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
    return Cameras.from_fov(viewmats, SPHERE_FOV_DEG, VIEW_PX, VIEW_PX)
