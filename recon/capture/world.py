"""A capture in another frame of the world."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from recon.capture.types import Frame
from render import Cameras, Sim3
from render.cameras import camera_centers


def moved(frame: Frame, dst_from_src: Sim3) -> Frame:
    """A frame with its camera, points and depths in another frame of the world."""
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


def chosen_world(frames: Sequence[Frame], scale: float, center: bool) -> Sim3 | None:
    """The frame that is `scale` times as large, with the middle of the cameras at its origin if
    wanted; None for the same."""
    if scale == 1 and not center:
        return None
    middle = torch.zeros(3, dtype=torch.float64)
    if center:
        viewmats = torch.stack([frame.camera.viewmat for frame in frames if frame.camera])
        middle = camera_centers(viewmats).mean(0)
    same = Sim3.identity(torch.float64)
    return replace(same, scale=same.scale * scale, translation=-scale * middle)
