"""A capture's cameras for pictures to be made, not for its photos."""

import torch

from recon.capture.types import Capture
from render import Cameras

DEFAULT_LONG_SIDE_PX = 768


def pinhole_cameras(capture: Capture, size: tuple[int, int] | None = None) -> Cameras:
    """All cameras of a capture without their distortion, for pictures of one size.

    A size of other proportions shows more at the sides or above and below: the focal
    length follows the side that fits tighter, and the middle stays the middle.
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
