"""Depth planes of a view whose depth range is not known yet."""

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.warp import Warp, inside
from render import Cameras

# Candidate disparities, as powers of ten of 1 / baseline, among which the planes are chosen.
CANDIDATE_EXPONENTS, NUM_CANDIDATES = (-3.0, 1.5), 128
# Long side of the grid of pixels whose motion is measured: their mean changes little with more.
GRID_PX = 24
# Candidates at which less of the view is visible in the source views, relative to the best
# candidate, are left out.
MIN_RELATIVE_VISIBILITY = 0.3


def uniform_motion_planes(
    cameras: Cameras, view: int, sources: list[int], count: int
) -> Float[Tensor, " d"]:
    """Choose disparities between which the view's pixels move by equal steps in a source view.

    They span the disparities at which a source view sees a good part of the view. For cameras
    side by side they are uniform in disparity. A camera behind this one sees points however near:
    uniform steps in disparity would spend all planes there.
    """
    cameras = cameras.reduced(GRID_PX)
    distances = (cameras.centers[sources] - cameras.centers[view]).norm(dim=-1)
    baseline = float(distances.median().clamp_min(1e-8))
    candidates = torch.logspace(
        *CANDIDATE_EXPONENTS, NUM_CANDIDATES, dtype=cameras.Ks.dtype, device=cameras.device
    )
    candidates = candidates / baseline
    visibility, motion = torch.zeros_like(candidates), torch.zeros_like(candidates)
    for source in sources:
        pixels, ratio = Warp.between(cameras, view, source).pixels(candidates[:, None, None])
        visible = inside(pixels, ratio, cameras.width, cameras.height)
        visibility = torch.maximum(visibility, visible.float().mean((1, 2)))
        both = visible[1:] & visible[:-1]
        steps = (pixels[1:] - pixels[:-1]).norm(dim=-1).where(both, 0).sum((1, 2))
        mean = steps / both.sum((1, 2)).clamp_min(1)
        motion[1:] = torch.maximum(motion[1:], mean)
    enough = visibility >= MIN_RELATIVE_VISIBILITY * visibility.max()
    usable = enough.nonzero()[:, 0]
    first = min(int(usable[0]), NUM_CANDIDATES - 2)
    last = max(int(usable[-1]), first + 1)
    path = motion[first : last + 1].cumsum(0)
    return _resample(candidates[first : last + 1], path - path[0], count)


def _resample(
    values: Float[Tensor, " l"], path: Float[Tensor, " l"], count: int
) -> Float[Tensor, " d"]:
    """Interpolate `count` values from the first to the last, equally spaced along the path."""
    # Where nothing moves at all, steps are uniform in the values' order.
    path = path + 1e-6 * torch.arange(len(path)).to(path)
    targets = torch.linspace(0, 1, count).to(path) * path[-1]
    after = torch.searchsorted(path, targets).clamp(1, len(path) - 1)
    fraction = (targets - path[after - 1]) / (path[after] - path[after - 1])
    return torch.lerp(values[after - 1], values[after], fraction)
