"""Camera paths for images and video."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from render.cameras import Cameras
from render.gaussians import Gaussians
from render.quaternions import quats_to_rotmats, rotmats_to_quats, slerp

ORBIT_DEG = 12.0
SWAY_DEG = 6.0


def focus_point(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "3"]:
    """Find the point on the optical axis at the median depth of the Gaussians in view.

    Takes a single camera, with or without the axis v.
    """
    camera = camera.flatten()[0]
    pixels, depth = camera.project(gaussians.means[:: max(1, len(gaussians) // 100_000)])
    seen = camera.contains(pixels, depth)
    distance = depth[seen].median() if seen.any() else depth.new_tensor(1.0)
    return camera.centers + distance * camera.viewmats[2, :3]


def orbit(gaussians: Gaussians, cameras: Cameras, count: int) -> Cameras:
    """Circle around the middle camera's position, looking at its focus point.

    Takes a single camera, too.
    """
    angle = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    return _swing(gaussians, cameras, ORBIT_DEG * angle.sin(), 0.6 * ORBIT_DEG * angle.cos())


def wave(gaussians: Gaussians, cameras: Cameras, count: int) -> Cameras:
    """Sway gently from side to side around the middle camera, with a slight rise.

    Takes a single camera, too.
    """
    angle = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    return _swing(gaussians, cameras, SWAY_DEG * angle.sin(), 0.3 * SWAY_DEG * (2 * angle).sin())


def interpolate(cameras: Cameras, count: int) -> Cameras:
    """Pass through the given cameras in order; stay at a single camera.

    Positions follow Catmull-Rom curves, rotations are interpolated by slerp.
    """
    cameras = _flattened(cameras)
    views = len(cameras)
    position = torch.linspace(0, views - 1, count, dtype=torch.float64)
    index = position.floor().long().clamp_max(max(views - 2, 0))
    step = position - index
    knots = [(index + k).clamp(0, views - 1) for k in (-1, 0, 1, 2)]
    c2w = cameras.c2w.double().cpu()
    centers = _catmull_rom([c2w[k, :3, 3] for k in knots], step[:, None])
    quats = rotmats_to_quats(c2w[:, :3, :3])
    rotmats = quats_to_rotmats(slerp(quats[knots[1]], quats[knots[2]], step[:, None]))
    mix = step[:, None, None].to(cameras.Ks)
    ahead, behind = knots[2].to(cameras.device), knots[1].to(cameras.device)
    Ks = cameras.Ks[behind] * (1 - mix) + cameras.Ks[ahead] * mix
    return Cameras(
        _viewmats(rotmats, centers).to(cameras.viewmats), Ks, cameras.width, cameras.height
    )


PATHS: dict[str, Callable[[Gaussians, Cameras, int], Cameras]] = {
    "orbit": orbit,
    "wave": wave,
    "interpolate": lambda _, cameras, count: interpolate(cameras, count),
}


def _flattened(cameras: Cameras) -> Cameras:
    """Return cameras on one axis, which may come as a single camera; ValueError if none."""
    cameras = cameras.flatten()
    if not cameras:
        raise ValueError("a path needs at least one camera")
    return cameras


def _swing(gaussians: Gaussians, cameras: Cameras, yaw_deg: Tensor, pitch_deg: Tensor) -> Cameras:
    """Rotate the middle camera around its focus point, about its own axes."""
    cameras = _flattened(cameras)
    middle = cameras[len(cameras) // 2]
    focus = focus_point(gaussians, middle).double().cpu()
    c2w = middle.c2w.double().cpu()
    yaw, pitch = torch.deg2rad(yaw_deg.double()), torch.deg2rad(pitch_deg.double())
    zero = torch.zeros_like(yaw)
    yaw_quat = torch.stack([(yaw / 2).cos(), zero, (yaw / 2).sin(), zero], -1)
    pitch_quat = torch.stack([(pitch / 2).cos(), (pitch / 2).sin(), zero, zero], -1)
    local = quats_to_rotmats(yaw_quat) @ quats_to_rotmats(pitch_quat)
    rotmats = c2w[:3, :3] @ local
    distance = (focus - c2w[:3, 3]).norm()
    centers = focus - distance * rotmats[:, :, 2]
    viewmats = _viewmats(rotmats, centers).to(middle.viewmats)
    return Cameras(viewmats, middle.Ks.expand(len(yaw), 3, 3), middle.width, middle.height)


def _viewmats(
    rotmats: Float[Tensor, "v 3 3"], centers: Float[Tensor, "v 3"]
) -> Float[Tensor, "v 4 4"]:
    """Build camera-from-world matrices from world-from-camera rotations and positions."""
    viewmats = torch.eye(4, dtype=rotmats.dtype).repeat(len(rotmats), 1, 1)
    viewmats[:, :3, :3] = rotmats.mT
    viewmats[:, :3, 3] = -(rotmats.mT @ centers[..., None])[..., 0]
    return viewmats


def _catmull_rom(p: list[Tensor], t: Tensor) -> Tensor:
    """Interpolate from p1 (t = 0) to p2 (t = 1) (Catmull & Rom 1974)."""
    return 0.5 * (
        2 * p[1]
        + (p[2] - p[0]) * t
        + (2 * p[0] - 5 * p[1] + 4 * p[2] - p[3]) * t**2
        + (3 * p[1] - p[0] - 3 * p[2] + p[3]) * t**3
    )
