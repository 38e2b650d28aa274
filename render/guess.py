"""Guess of a camera for a scene that has none."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from render.cameras import Cameras
from render.directions import spread_directions
from render.gaussians import Gaussians
from render.rasterize import rasterize
from render.types import RasterizeSettings, RenderOutput

DEFAULT_FOV_DEG = 60.0
# Maximum number of Gaussians that score a candidate position, that are rendered, and for everything
# else.
MAX_SCORED, MAX_RENDERED, MAX_USED = 4000, 8000, 100_000
# Candidate positions: directions, and distances from the centre in radii of the scene.
DIRECTIONS, DISTANCES = 64, (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
# The best score must be below this fraction of the median.
MAX_SCORE_RATIO = 0.9
# Quantile of the deviations that is the score: surfaces seen from many photos have Gaussians of
# several sizes.
SCORE_QUANTILE = 0.7
# Length of the mean unit direction in a photo, and the penalty where directions spread more.
PHOTO_CONCENTRATION, SPREAD_PENALTY = 0.9, 1.0
# Number of candidates that are rendered, and side of their images (px).
NUM_RENDERED, SIDE_PX = 24, 32
# Number of points in such an image that tell where up is.
MIN_POINTS = 16
# Weight of the score, relative to its median, against the coverage of the middle of the image, and
# the coverage that is enough: objects have holes, too.
SCORE_WEIGHT, ENOUGH_COVERAGE = 2.0, 0.95
# First and last distance of candidates around the best one, in radii of the scene.
FIRST_STEP, LAST_STEP = 0.25, 0.01
# Axes that may be up, with priors: y down as of COLMAP, z up or down, and x, which is rare.
UP_AXES = {(0, -1, 0): 0.2, (0, 1, 0): 0.0, (0, 0, 1): 0.15, (0, 0, -1): 0.15, (1, 0, 0): -0.4,
           (-1, 0, 0): -0.4}  # fmt: skip
# Weight of the fraction of surfaces that face up, added to a correlation of height and distance;
# cosine of a normal from which a surface does; and the largest |cosine| between the optical axis
# and an axis that may be up.
FACING_WEIGHT, MIN_FACING, MAX_UP_COSINE = 3.0, 0.7, 0.8


def default_camera(gaussians: Gaussians, width: int, height: int) -> Cameras:
    """Guess a camera from which the photos may have been taken, upright as far as can be told.

    A Gaussian that was predicted for a photo's pixel has a size proportional to its distance from
    the camera: the position is one at which this holds well, and from which the scene fills the
    middle of the image. The camera looks in the mean direction of the scene. Where sizes are not
    informative (a scene optimised from photos all around), it looks along +z from a position from
    which the central 90 % of the scene fit into 60 degrees.

    Returns:
        One camera, with the axis v.
    """
    part = gaussians[_subsample(len(gaussians), MAX_USED, gaussians.device)]
    coarse = _thinned(part)
    position = _capture_position(part, coarse)
    if position is None:
        focal = 0.5 * max(width, height) / math.tan(math.radians(DEFAULT_FOV_DEG) / 2)
        position = _position_in_front(part, 0.5 * min(width, height) / focal)
        viewmat = _looking(position[None], torch.eye(3).to(position)[None])
    else:
        viewmat = _upright(part, coarse, position)
    return Cameras.from_fov(viewmat, DEFAULT_FOV_DEG, width, height, "longer")


def _subsample(count: int, most: int, device: torch.device) -> Int[Tensor, " m"]:
    """Return indices at equal distances: `most` of them, or all."""
    chosen = min(count, most)
    return torch.arange(chosen, device=device) * count // max(chosen, 1)


def _position_in_front(gaussians: Gaussians, slope: float) -> Float[Tensor, "3"]:
    q = gaussians.means.new_tensor([0.05, 0.5, 0.95])
    low, middle, high = torch.quantile(gaussians.means, q, dim=0)
    radius = float((high - low)[:2].norm()) / 2
    return torch.cat([middle[:2], low[2:] - max(radius / slope, 1e-6)])


def _capture_position(gaussians: Gaussians, coarse: Gaussians) -> Float[Tensor, "3"] | None:
    """Find where sizes are nearly proportional to distances and the scene is seen, if anywhere.

    Args:
        gaussians: The scene.
        coarse: The same for small renders (see `_thinned`).
    """
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
    usual = scores.median()
    if scores.min() > MAX_SCORE_RATIO * usual:
        return None
    likely = scores.argsort()[:NUM_RENDERED]
    coverage = torch.stack([_coverage(coarse, candidates[i], middle) for i in likely])
    total = coverage.clamp_max(ENOUGH_COVERAGE) - SCORE_WEIGHT * scores[likely] / usual
    chosen = likely[total.argmax()]
    best, position = scores[chosen], candidates[chosen]
    step = FIRST_STEP * radius
    while step > LAST_STEP * radius:
        around = position + step * outward
        scores = _score(around, part.means, size)
        if scores.min() < best:
            best, position = scores.min(), around[scores.argmin()]
        else:
            step /= 2
    return position


def _thinned(gaussians: Gaussians) -> Gaussians:
    """Return a part of the Gaussians, enlarged so that they cover as much."""
    part = gaussians[_subsample(len(gaussians), MAX_RENDERED, gaussians.device)]
    factor = math.sqrt(len(gaussians) / len(part))
    return replace(part, scales=factor * part.scales, sh=part.sh[:, :1]).to(torch.float32)


def _coverage(gaussians: Gaussians, position: Tensor, target: Tensor) -> Tensor:
    """Return the mean opacity of the middle of an image that looks at a point."""
    alpha = _rendered(gaussians, _any_rotation(target - position), position).alpha[0, 0]
    quarter = SIDE_PX // 4
    return alpha[quarter:-quarter, quarter:-quarter].mean()


def _rendered(gaussians: Gaussians, rotmat: Tensor, position: Tensor) -> RenderOutput:
    viewmat = _looking(position[None], rotmat[None]).to(torch.float32)
    camera = Cameras.from_fov(viewmat, DEFAULT_FOV_DEG, SIDE_PX, SIDE_PX, "longer")
    return rasterize(gaussians, camera, settings=RasterizeSettings(render_mode="D"))


def _looking(position: Float[Tensor, "v 3"], rotmat: Float[Tensor, "v 3 3"]) -> Tensor:
    viewmat = torch.eye(4).to(position).repeat(len(position), 1, 1)
    viewmat[:, :3, :3] = rotmat
    viewmat[:, :3, 3] = -(rotmat @ position[..., None])[..., 0]
    return viewmat


def _any_rotation(ahead: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Return a camera-from-world rotation with an optical axis, whatever is up."""
    axis = torch.eye(3).to(ahead)[int(ahead.abs().argmin())]
    return _rotation(normalize(ahead, dim=0), axis)


def _rotation(ahead: Float[Tensor, "3"], up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    right = normalize(torch.linalg.cross(ahead, up), dim=0)
    return torch.stack([right, torch.linalg.cross(ahead, right), ahead])


def _score(
    positions: Float[Tensor, "p 3"], means: Float[Tensor, "n 3"], size: Float[Tensor, " n"]
) -> Float[Tensor, " p"]:
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


def _upright(
    gaussians: Gaussians, coarse: Gaussians, position: Float[Tensor, "3"]
) -> Float[Tensor, "1 4 4"]:
    """Return the upright world-to-camera matrix of a camera that looks at the scene.

    Up is the axis of the world along which what is seen is farther away, since the ground is near
    at the bottom of a photo, and which surfaces face: floors and tables are seen from above.
    Scenes with y down are the most common.
    """
    away = gaussians.means - position
    ahead = normalize(normalize(away, dim=1).mean(0), dim=0)
    rotmat = _any_rotation(ahead)
    output = _rendered(coarse, rotmat, position)
    points, normals = _surface(output, rotmat)
    if len(points) < MIN_POINTS:
        return _looking(position[None], rotmat[None])
    distance = points.norm(dim=1).clamp_min(1e-12)
    best, up = -math.inf, ahead.new_tensor([0.0, -1.0, 0.0])
    for direction, prior in UP_AXES.items():
        axis = ahead.new_tensor(direction)
        if abs(float(axis @ ahead)) > MAX_UP_COSINE:
            continue
        height = (points / distance[:, None]) @ normalize(axis - (axis @ ahead) * ahead, dim=0)
        rises = torch.corrcoef(torch.stack([height, distance.log()]))[0, 1].nan_to_num()
        facing = (normals @ axis > MIN_FACING).float().mean().nan_to_num()
        score = float(rises + FACING_WEIGHT * facing) + prior
        if score > best:
            best, up = score, axis
    return _looking(position[None], _rotation(ahead, up)[None])


def _surface(
    output: RenderOutput, rotmat: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Return the points that are seen, from the camera, and normals toward it (world axes)."""
    depth, alpha = output.expected_depth[0, 0], output.alpha[0, 0]
    slope = math.tan(math.radians(DEFAULT_FOV_DEG) / 2)
    x = slope * ((torch.arange(SIDE_PX).to(depth) + 0.5) * 2 / SIDE_PX - 1)
    rays = torch.stack([x.expand(SIDE_PX, -1), x[:, None].expand(-1, SIDE_PX), 0 * depth + 1], -1)
    points = (depth[..., None] * rays).to(rotmat) @ rotmat
    along, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    normals = normalize(torch.linalg.cross(along, down), dim=-1)
    corner = points[:-1, :-1]
    normals = normals * -(normals * corner).sum(-1, keepdim=True).sign()
    seen = alpha > 0.5
    whole = seen[:-1, :-1] & seen[:-1, 1:] & seen[1:, :-1]
    return corner[whole], normals[whole]
