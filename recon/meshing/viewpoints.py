"""Cameras that the surfaces of a scene are measured from."""

import torch

from recon.capture import Capture, select_spread
from recon.compression.synthetic_cameras import synthetic_cameras
from recon.errors import InputError
from recon.formats import SceneSource
from recon.start_camera import local_start
from render import Cameras, Gaussians
from render.paths import interpolate

# Largest number of cameras of photos; as many again are added between neighbours if they are few.
MAX_CAMERAS, FEW_CAMERAS = 40, 16


def capture_cameras(capture: Capture, resolution: int) -> list[Cameras]:
    """Return cameras of a capture, which are spread over the scene.

    Args:
        capture: Its cameras are in the frame of the scene.
        resolution: Length of the longer side of the images (px).
    """
    if not capture.has_cameras:
        raise InputError(f"{capture.title} has no cameras; pass a capture with cameras")
    frames = [capture.frames[index] for index in select_spread(capture, MAX_CAMERAS)]
    found = [f.camera for f in frames if f.camera is not None]
    return [
        Cameras(c.viewmat[None].float(), c.K[None].float(), c.width, c.height).reduced(resolution)
        for c in found
    ]


def kept_cameras(source: SceneSource, resolution: int) -> list[Cameras]:
    """Return the cameras that a scene file keeps, if any.

    Args:
        source: The file.
        resolution: Length of the longer side of the images (px).
    """
    kept = [local_start(named.camera, source.origin) for named in source.cameras]
    step = max(1, -(-len(kept) // MAX_CAMERAS))
    return [camera.reduced(resolution) for camera in kept[::step]]


def guessed_cameras(source: SceneSource, gaussians: Gaussians, resolution: int) -> list[Cameras]:
    """Return guessed cameras around a scene.

    Args:
        source: The file.
        gaussians: Its Gaussians.
        resolution: Length of the longer side of the images (px).
    """
    start = None if source.start is None else local_start(source.start, source.origin)
    _, around, _ = synthetic_cameras(gaussians, start)
    sized = around.reduced(resolution)
    return [sized[[index]] for index in range(len(sized))]


def with_midpoints(cameras: list[Cameras]) -> list[Cameras]:
    """Add a camera halfway from each of a few cameras to its nearest neighbour of the same size."""
    added: list[Cameras] = []
    if not 1 < len(cameras) <= FEW_CAMERAS:
        return cameras
    centers = torch.cat([camera.centers for camera in cameras])
    distances = torch.cdist(centers, centers).fill_diagonal_(torch.inf)
    pairs = {tuple(sorted((i, int(j)))) for i, j in enumerate(distances.argmin(1))}
    for i, j in sorted(pairs):
        one, other = cameras[i], cameras[j]
        if (one.width, one.height) == (other.width, other.height):
            both = Cameras(
                torch.cat([one.viewmats, other.viewmats]),
                torch.cat([one.Ks, other.Ks]),
                one.width,
                one.height,
            )
            added.append(interpolate(both, 3)[[1]])
    return cameras + added
