"""Guess of a camera for a scene that has none."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from render.cameras import Cameras
from render.directions import spread_directions
from render.gaussians import Gaussians

DEFAULT_FOV_DEG = 60.0
# Maximum number of Gaussians that score a candidate position, and for everything else.
MAX_SCORED, MAX_USED = 4000, 100_000
# Candidate positions: directions, and distances from the centre in radii of the scene.
DIRECTIONS, DISTANCES = 64, (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
# The best score must be below this fraction of that of the farthest candidates.
MAX_SCORE_RATIO = 0.9
# Quantile of the deviations that is the score: surfaces seen from many photos have Gaussians of
# several sizes.
SCORE_QUANTILE = 0.7
# Length of the mean unit direction in a photo, and the penalty where directions spread more.
PHOTO_CONCENTRATION, SPREAD_PENALTY = 0.9, 1.0
# Prior for y pointing down, added to a correlation of height and distance; and the largest
# |cosine| between the optical axis and an axis that may be up.
Y_DOWN_PRIOR, MAX_UP_COSINE = 0.3, 0.8


def default_camera(gaussians: Gaussians, width: int, height: int) -> Cameras:
    """Guess a camera from which the photos may have been taken, upright as far as can be told.

    A Gaussian that was predicted for a photo's pixel has a size proportional to its distance from
    the camera: the position is the one at which this holds best. Where sizes are not informative (a
    scene optimised from photos all around), the camera looks along +z from a position from which
    the central 90 % of the scene fit into 60 degrees.

    Returns:
        One camera, with the axis v.
    """
    part = gaussians[_subsample(len(gaussians), MAX_USED, gaussians.device)]
    position = _capture_position(part)
    if position is None:
        focal = 0.5 * max(width, height) / math.tan(math.radians(DEFAULT_FOV_DEG) / 2)
        position = _position_in_front(part, 0.5 * min(width, height) / focal)
        rotmat = torch.eye(3).to(part.means)
    else:
        distance = (part.means - position).norm(dim=1).clamp_min(1e-12)
        dirs = (part.means - position) / distance[:, None]
        rotmat = _upright_rotation(normalize(dirs.mean(0), dim=0), dirs, distance)
    viewmat = torch.eye(4).to(part.means)
    viewmat[:3, :3] = rotmat
    viewmat[:3, 3] = -rotmat @ position
    return Cameras.from_fov(viewmat[None], DEFAULT_FOV_DEG, width, height, "longer")


def _subsample(count: int, most: int, device: torch.device) -> Tensor:
    return torch.arange(0, count, max(1, count // most), device=device)


def _position_in_front(gaussians: Gaussians, slope: float) -> Float[Tensor, "3"]:
    q = gaussians.means.new_tensor([0.05, 0.5, 0.95])
    low, middle, high = torch.quantile(gaussians.means, q, dim=0)
    radius = float((high - low)[:2].norm()) / 2
    return torch.cat([middle[:2], low[2:] - max(radius / slope, 1e-6)])


def _capture_position(gaussians: Gaussians) -> Float[Tensor, "3"] | None:
    """Find where the ratio of size to distance is most nearly constant, if anywhere."""
    part = gaussians[_subsample(len(gaussians), MAX_SCORED, gaussians.device)]
    # The shortest axis is the thickness, not the size.
    size = part.scales.sort(-1).values[:, 1:].clamp_min(1e-30).log().mean(-1)
    middle = part.means.median(0).values
    radius = float((part.means - middle).norm(dim=1).quantile(0.9))
    if radius == 0:
        return None
    outward = spread_directions(DIRECTIONS).to(part.means)
    candidates = torch.cat([middle + d * radius * outward for d in DISTANCES])
    scores = _score(candidates, part.means, size)
    best, usual = scores.min(), scores[-DIRECTIONS:].median()
    if best > MAX_SCORE_RATIO * usual:
        return None
    position, step = candidates[scores.argmin()], 0.25 * radius
    while step > 0.01 * radius:
        around = position + step * outward
        scores = _score(around, part.means, size)
        if scores.min() < best:
            best, position = scores.min(), around[scores.argmin()]
        else:
            step /= 2
    return position


def _score(
    positions: Float[Tensor, "p 3"], means: Float[Tensor, "n 3"], size: Float[Tensor, "n"]
) -> Float[Tensor, "p"]:
    """Measure the deviation of log(size / distance); lower is better.

    It is raised where Gaussians lie all around: photos look in one direction.
    """
    distance = torch.cdist(positions, means).clamp_min(1e-12)
    ratio = size - distance.log()
    away = (ratio - ratio.median(1, keepdim=True).values).abs()
    deviation = away.quantile(SCORE_QUANTILE, dim=1)
    # Mean of the directions: means / distance - position / distance.
    weight = 1 / distance / len(means)
    ahead = weight @ means - weight.sum(1, keepdim=True) * positions
    concentration = (PHOTO_CONCENTRATION - ahead.norm(dim=1)).clamp_min(0)
    score: Tensor = deviation * (1 + SPREAD_PENALTY * concentration)
    return score


def _upright_rotation(
    ahead: Float[Tensor, "3"], dirs: Float[Tensor, "n 3"], distance: Float[Tensor, "n"]
) -> Float[Tensor, "3 3"]:
    """Find the upright camera-from-world rotation with a given optical axis.

    Up is the axis of the world along which Gaussians are farther away: the ground is near at the
    bottom of a photo. Scenes with y down are the most common.
    """
    best, up = -math.inf, ahead.new_tensor([0.0, -1.0, 0.0])
    for axis in torch.cat([torch.eye(3), -torch.eye(3)]).to(ahead):
        if abs(float(axis @ ahead)) > MAX_UP_COSINE:
            continue
        height = dirs @ normalize(axis - (axis @ ahead) * ahead, dim=0)
        rises = torch.corrcoef(torch.stack([height, distance.log()]))[0, 1].nan_to_num()
        score = float(rises) + (Y_DOWN_PRIOR if axis[1] < 0 else 0.0)
        if score > best:
            best, up = score, axis
    right = normalize(torch.linalg.cross(ahead, up), dim=0)
    return torch.stack([right, torch.linalg.cross(ahead, right), ahead])
