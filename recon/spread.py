"""Selection of cameras that are spread over a scene: some of many stand for all of them."""

import numpy as np
from jaxtyping import Float

from render import Cameras


def spread_cameras(cameras: Cameras, count: int) -> list[int]:
    """Select at most `count` cameras by `farthest_poses`, as indices in increasing order."""
    if len(cameras) <= count:
        return list(range(len(cameras)))
    axes = cameras.viewmats[:, 2, :3]
    return farthest_poses(cameras.centers.cpu().numpy(), axes.cpu().numpy(), count)


def farthest_poses(
    centers: Float[np.ndarray, "v 3"], axes: Float[np.ndarray, "v 3"], count: int
) -> list[int]:
    """Select `count` of more camera poses by farthest-point sampling.

    One radian of viewing direction counts as the median distance of the centres from their median.
    The first is the pose nearest to the mean.

    Args:
        centers: Positions of the cameras.
        axes: Unit viewing directions.
        count: Number of poses to select.

    Returns:
        Indices in increasing order.
    """
    centers = centers - np.median(centers, 0)
    spread = max(float(np.median(np.linalg.norm(centers, axis=1))), 1e-12)
    poses = np.concatenate([centers / spread, axes], 1)
    selected = [int(np.linalg.norm(poses - poses.mean(0), axis=1).argmin())]
    distance = np.full(len(poses), np.inf)
    while len(selected) < count:
        distance = np.minimum(distance, np.linalg.norm(poses - poses[selected[-1]], axis=1))
        distance[selected] = -1
        selected.append(int(distance.argmax()))
    return sorted(selected)
