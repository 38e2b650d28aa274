"""Cameras of a capture: selection, pinhole versions, and changes of the world frame."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from recon.capture.geometry import c2w_from_viewmat
from recon.capture.types import Capture, Frame
from recon.precision import WORLD, Origin
from recon.spread import farthest_poses
from render import Cameras, Sim3
from render.cameras import camera_centers

DEFAULT_LONG_SIDE_PX = 768


def select_spread(capture: Capture, count: int) -> list[int]:
    """Select at most `count` photos that are spread over the scene.

    With cameras, by `farthest_poses`; without, evenly spaced photos.

    Returns:
        Indices of frames in increasing order.
    """
    total = len(capture.frames)
    if total <= count:
        return list(range(total))
    if not capture.has_cameras:
        return [int(i) for i in np.linspace(0, total - 1, count).round()]
    c2w = np.stack([c2w_from_viewmat(f.camera.viewmat) for f in capture.frames if f.camera])
    return farthest_poses(c2w[:, :3, 3], c2w[:, :3, 2], count)


def pinhole_cameras(capture: Capture, size: tuple[int, int] | None = None) -> Cameras:
    """Return all cameras of a capture without their distortion, for images of one size.

    Args:
        capture: At least one of its frames has a camera.
        size: (width, height) in pixels; None scales the first camera to a long side of at most
            DEFAULT_LONG_SIDE_PX. With another aspect ratio, the focal length follows the tighter
            side, so that the images show more at the other sides; the principal point moves
            accordingly.
    """
    cameras = [frame.camera for frame in capture.frames if frame.camera is not None]
    first = cameras[0]
    if size is None:
        scale = min(1.0, DEFAULT_LONG_SIDE_PX / max(first.width, first.height))
        size = (round(first.width * scale), round(first.height * scale))
    Ks = []
    for camera in cameras:
        scale = min(size[0] / camera.width, size[1] / camera.height)
        K = camera.K.clone()
        K[:2] *= scale
        K[0, 2] += (size[0] - scale * camera.width) / 2
        K[1, 2] += (size[1] - scale * camera.height) / 2
        Ks.append(K)
    viewmats = torch.stack([camera.viewmat for camera in cameras])
    return Cameras(viewmats.float(), torch.stack(Ks).float(), *size)


def transform_frame(frame: Frame, dst_from_src: Sim3) -> Frame:
    """Transform a frame's camera, points and depth bounds into another world frame."""
    if frame.camera is None:
        return frame
    camera = frame.camera
    own = Cameras(camera.viewmat[None], camera.K[None], camera.width, camera.height)
    viewmat = own.transformed(dst_from_src).viewmats[0]
    points = None if frame.points is None else dst_from_src.apply(frame.points)
    bounds = None
    if frame.depth_bounds is not None:
        near, far = (float(dst_from_src.scale) * depth for depth in frame.depth_bounds)
        bounds = near, far
    return replace(
        frame, camera=replace(camera, viewmat=viewmat), points=points, depth_bounds=bounds
    )


def relative_to(capture: Capture, origin: Origin) -> Capture:
    """Express the cameras and points of a capture relative to a point of its world frame."""
    if origin == WORLD:
        return capture
    shift = -torch.tensor(origin, dtype=torch.float64)
    moved = replace(Sim3.identity(torch.float64), translation=shift)
    return replace(capture, frames=tuple(transform_frame(f, moved) for f in capture.frames))


def world_transform(frames: Sequence[Frame], scale: float, center: bool) -> Sim3 | None:
    """Return the transform that scales the world and, if `center`, centres the cameras.

    None stands for the identity. Centring moves the mean camera centre to the origin.
    """
    if scale == 1 and not center:
        return None
    mean = torch.zeros(3, dtype=torch.float64)
    if center:
        viewmats = torch.stack([frame.camera.viewmat for frame in frames if frame.camera])
        mean = camera_centers(viewmats).mean(0)
    identity = Sim3.identity(torch.float64)
    return replace(identity, scale=identity.scale * scale, translation=-scale * mean)
