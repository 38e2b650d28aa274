"""Cameras for scenes that come without."""

import math

import torch

from render import Cameras, Gaussians
from render.cameras import look_at
from render.directions import spread_directions
from render.guess import default_camera
from render.paths import wave

# Of generated cameras.
SPHERE_VIEWS, WAVE_VIEWS, SPHERE_PX, SPHERE_FOV_DEG = 12, 8, 384, 50.0


def imagined_cameras(scene: Gaussians) -> Cameras:
    """From all around, and from about where its photos may have been taken."""
    guess = default_camera(scene, SPHERE_PX, SPHERE_PX)
    return Cameras.concatenate([sphere(scene), wave(scene, guess, WAVE_VIEWS)])


def sphere(scene: Gaussians) -> Cameras:
    """Cameras all around, evenly spread (Fibonacci), looking at the middle; for scenes without."""
    low, middle, high = (
        torch.quantile(scene.means[:: max(1, len(scene) // 100_000)], q, dim=0)
        for q in (0.05, 0.5, 0.95)
    )
    radius = float((high - low).norm()) / 2
    focal = 0.5 * SPHERE_PX / math.tan(math.radians(SPHERE_FOV_DEG) / 2)
    distance = max(radius / math.sin(math.radians(SPHERE_FOV_DEG) / 2), 1e-6)
    # Rows of cameras at one height, y.
    outward = spread_directions(SPHERE_VIEWS)[:, [0, 2, 1]].to(scene.means)
    up = outward.new_tensor([0.0, -1.0, 0.0])
    viewmats = torch.stack([look_at(middle + distance * each, middle, up) for each in outward])
    half = SPHERE_PX / 2
    K = torch.tensor([[focal, 0, half], [0, focal, half], [0, 0, 1]]).to(scene.means)
    return Cameras(viewmats, K.expand(SPHERE_VIEWS, 3, 3), SPHERE_PX, SPHERE_PX)
