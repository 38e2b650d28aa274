"""Haze before cameras: Gaussians close to a camera that most images see through.

They are small and hardly visible from the other cameras. A camera beside them, such as that of
somebody who moves through the scene, looks through them at everything.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from recon.fusion.config import FusionConfig
from recon.fusion.free_space import DepthMaps, is_seen_through
from recon.spread import spread_cameras
from render import Cameras, Gaussians, rasterize

# Long side of the renders (px), and their number if there are more cameras: spread ones.
SIDE_PX, MAX_CAMERAS = 256, 64
# Opacity of a pixel below which its depth does not count.
MIN_ALPHA = 0.5


@torch.no_grad()
def is_haze(gaussians: Gaussians, cameras: Cameras, radius: float) -> Bool[Tensor, " n"]:
    """Return which Gaussians are near a camera, and in front of what most images show there.

    The test is that of the prediction (`recon.fusion.free_space`), with the depth of renders.

    Args:
        gaussians: A scene that fits its photos roughly.
        cameras: Cameras of the photos, with the axis v.
        radius: Distance to a camera that is near, relative to the median depth that it sees.
    """
    maps = _rendered_depth(gaussians, cameras[spread_cameras(cameras, MAX_CAMERAS)])
    near = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    for view in range(len(maps.depth)):
        depth = maps.depth[view][maps.confidence[view] > 0]
        if len(depth):
            distance = (gaussians.means - maps.cameras.centers[view]).norm(dim=-1)
            near |= distance < radius * depth.median()
    index = near.nonzero()[:, 0]
    near[index] = is_seen_through(gaussians[index], [maps], FusionConfig())
    return near


def _rendered_depth(gaussians: Gaussians, cameras: Cameras) -> DepthMaps:
    """Render the depth that cameras see; its confidence is 1, or 0 where there is no surface."""
    small = cameras.reduced(SIDE_PX)
    outputs = [rasterize(gaussians, small[[view]]) for view in range(len(small))]
    alpha = torch.cat([output.alpha[:, 0] for output in outputs])
    depth = torch.cat([output.expected_depth[:, 0] for output in outputs])
    return DepthMaps(small, depth.clamp_min(1e-9), (alpha > MIN_ALPHA).float())
