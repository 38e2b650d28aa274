"""The frame that a scene is computed in: cameras around the origin, some units apart.

float32 is too coarse far from zero, and thresholds such as those against divisions by zero have
units. So a reconstruction moves the origin to the cameras where it must (UTM coordinates), and
scales scenes that are tiny or huge; the result is in the units of the input again. Factors are
powers of two, which change no digit.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from recon.capture.types import Frame
from recon.precision import WORLD, Origin, local_origin, typical_distance
from recon.scene import Scene
from recon.types import PackedViews, Views
from render import Cameras, Gaussians
from render.cameras import camera_centers
from render.quaternions import nearest_rotmats

# Typical distance of the cameras from their middle that needs no scaling (units).
MIN_SPREAD, MAX_SPREAD = 0.01, 1000.0


def camera_origin(frames: Sequence[Frame]) -> Origin:
    """Return the origin to compute around: zero, unless the cameras are too far from it."""
    viewmats = [frame.camera.viewmat for frame in frames if frame.camera is not None]
    if not viewmats:
        return local_origin(np.zeros((0, 3)))
    return local_origin(camera_centers(torch.stack(viewmats).double()).numpy())


def unit_scale(cameras: Cameras) -> float:
    """Return the power of two by which to multiply a scene of these cameras."""
    centers = cameras.centers.reshape(-1, 3).double().cpu().numpy()
    spread = typical_distance(centers, np.median(centers, 0))
    if spread == 0 or MIN_SPREAD <= spread <= MAX_SPREAD:
        return 1.0
    return float(2.0 ** -math.floor(math.log2(spread)))


def scale_views(views: Views | PackedViews, factor: float) -> Views | PackedViews:
    """Multiply all distances between cameras, and depths, by a factor."""
    if factor == 1:
        return views
    bounds = None if views.depth_bounds is None else factor * views.depth_bounds
    return replace(views, cameras=scale_cameras(views.cameras, factor), depth_bounds=bounds)


def scale_cameras(cameras: Cameras, factor: float) -> Cameras:
    """Multiply all distances between cameras by a factor."""
    viewmats = cameras.viewmats.clone()
    viewmats[..., :3, 3] *= factor
    return replace(cameras, viewmats=viewmats)


def scale_gaussians(gaussians: Gaussians, factor: float) -> Gaussians:
    """Multiply all positions and sizes by a factor."""
    if factor == 1:
        return gaussians
    return replace(gaussians, means=factor * gaussians.means, scales=factor * gaussians.scales)


def scale_scene(scene: Scene, factor: float) -> Scene:
    """Multiply all positions, sizes and depths of a scene by a factor."""
    if factor == 1:
        return scene
    return replace(
        scene,
        gaussians=scale_gaussians(scene.gaussians, factor),
        cameras=None if scene.cameras is None else scale_cameras(scene.cameras, factor),
        depth=None if scene.depth is None else factor * scene.depth,
    )


def world_cameras(cameras: Cameras, origin: Origin) -> Cameras:
    """Express cameras that are relative to an origin in the world frame, in float64.

    Rotations of float32 are made exact: their rounding would move cameras that are far from zero.
    """
    if origin == WORLD:
        return cameras
    viewmats = cameras.viewmats.double().clone()
    shift = torch.tensor(origin, dtype=torch.float64, device=viewmats.device)
    centers = camera_centers(viewmats) + shift
    rotmats = nearest_rotmats(viewmats[..., :3, :3])
    viewmats[..., :3, :3] = rotmats
    viewmats[..., :3, 3] = -(rotmats @ centers[..., None])[..., 0]
    return replace(cameras, viewmats=viewmats)
