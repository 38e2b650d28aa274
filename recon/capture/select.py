"""Which photos to use when there are more than wanted."""

import numpy as np

from recon.capture.geometry import c2w_from_viewmat
from recon.capture.types import Capture


def select_spread(capture: Capture, count: int) -> list[int]:
    """Indices of `count` frames spread over the scene, in file order.

    Farthest-point sampling over camera places and viewing directions (a turn of one
    radian counts as the median distance of the cameras from their middle), from the
    frame nearest the middle. Without cameras: evenly spaced.
    """
    total = len(capture.frames)
    if total <= count:
        return list(range(total))
    if not capture.has_cameras:
        return np.linspace(0, total - 1, count).round().astype(int).tolist()
    c2w = np.stack([c2w_from_viewmat(f.camera.viewmat) for f in capture.frames if f.camera])
    centers = c2w[:, :3, 3] - np.median(c2w[:, :3, 3], 0)
    spread = max(float(np.median(np.linalg.norm(centers, axis=1))), 1e-12)
    places = np.concatenate([centers / spread, c2w[:, :3, 2]], 1)
    chosen = [int(np.linalg.norm(places - places.mean(0), axis=1).argmin())]
    distance = np.full(total, np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return sorted(chosen)
