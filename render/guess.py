"""A camera for a scene that comes without any."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from render.cameras import Cameras
from render.directions import spread_directions
from render.gaussians import Gaussians

DEFAULT_FOV_DEG = 60.0
# Points that a place is judged by, and at most used otherwise.
JUDGED, USED = 4000, 100_000
# Places that are tried: directions, and distances from the middle in radii of the scene.
DIRECTIONS, DISTANCES = 64, (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
# Sizes have to tell of a place this much better than of those farthest away.
TELLING = 0.9
# Part of the Gaussians that size tells of: surfaces seen from many photos have several.
WORST = 0.7
# Length of the mean of directions in a photo, and how much it speaks against a place that they
# spread more.
AHEAD, AROUND = 0.9, 1.0
# What speaks for y being down, as a correlation of height and distance; and how nearly along the
# optical axis an axis may be to be up.
Y_DOWN, ALONG = 0.3, 0.8


def default_camera(gaussians: Gaussians, width: int, height: int) -> Cameras:
    """From where the photos may have been taken, as upright as can be told.

    A Gaussian that stands for a photo's pixel is as large as it is far from the camera: the place
    for which that is most nearly so is taken. Where sizes do not tell (a scene optimised from
    photos all around), it looks along +z from where the middle 90 % fit into 60 degrees.
    """
    part = gaussians[_spread(len(gaussians), USED, gaussians.device)]
    place = _place(part)
    if place is None:
        focal = 0.5 * max(width, height) / math.tan(math.radians(DEFAULT_FOV_DEG) / 2)
        place = _in_front(part, 0.5 * min(width, height) / focal)
        rotmat = torch.eye(3).to(part.means)
    else:
        distance = (part.means - place).norm(dim=1).clamp_min(1e-12)
        dirs = (part.means - place) / distance[:, None]
        rotmat = _turn(normalize(dirs.mean(0), dim=0), dirs, distance)
    viewmat = torch.eye(4).to(part.means)
    viewmat[:3, :3] = rotmat
    viewmat[:3, 3] = -rotmat @ place
    return Cameras.from_fov(viewmat[None], DEFAULT_FOV_DEG, width, height, "longer")


def _spread(count: int, most: int, device: torch.device) -> Tensor:
    return torch.arange(0, count, max(1, count // most), device=device)


def _in_front(gaussians: Gaussians, slope: float) -> Float[Tensor, "3"]:
    q = gaussians.means.new_tensor([0.05, 0.5, 0.95])
    low, middle, high = torch.quantile(gaussians.means, q, dim=0)
    radius = float((high - low)[:2].norm()) / 2
    return torch.cat([middle[:2], low[2:] - max(radius / slope, 1e-6)])


def _place(gaussians: Gaussians) -> Float[Tensor, "3"] | None:
    """From where sizes over distances are most nearly one number; None where none stands out."""
    part = gaussians[_spread(len(gaussians), JUDGED, gaussians.device)]
    # The shortest axis tells how flat it is, not how large.
    size = part.scales.sort(-1).values[:, 1:].clamp_min(1e-30).log().mean(-1)
    middle = part.means.median(0).values
    radius = float((part.means - middle).norm(dim=1).quantile(0.9))
    if radius == 0:
        return None
    outward = spread_directions(DIRECTIONS).to(part.means)
    tried = torch.cat([middle + d * radius * outward for d in DISTANCES])
    spread = _disagreement(tried, part.means, size)
    best, usual = spread.min(), spread[-DIRECTIONS:].median()
    if best > TELLING * usual:
        return None
    place, step = tried[spread.argmin()], 0.25 * radius
    while step > 0.01 * radius:
        around = place + step * outward
        spread = _disagreement(around, part.means, size)
        if spread.min() < best:
            best, place = spread.min(), around[spread.argmin()]
        else:
            step /= 2
    return place


def _disagreement(
    places: Float[Tensor, "p 3"], means: Float[Tensor, "n 3"], size: Float[Tensor, "n"]
) -> Float[Tensor, "p"]:
    """Deviation of the logarithm of size over distance, more where Gaussians lie all around: photos
    look one way."""
    distance = torch.cdist(places, means).clamp_min(1e-12)
    ratio = size - distance.log()
    away = (ratio - ratio.median(1, keepdim=True).values).abs()
    deviation = away.quantile(WORST, dim=1)
    # Mean of the directions: means / distance - place / distance.
    share = 1 / distance / len(means)
    ahead = share @ means - share.sum(1, keepdim=True) * places
    return deviation * (1 + AROUND * (AHEAD - ahead.norm(dim=1)).clamp_min(0))


def _turn(
    ahead: Float[Tensor, "3"], dirs: Float[Tensor, "n 3"], distance: Float[Tensor, "n"]
) -> Float[Tensor, "3 3"]:
    """Camera from world, for the optical axis and where Gaussians are seen.

    Of the world's axes that one is up along which things are farther away: the ground is near at
    the bottom of a photo. Scenes with y down are the most common.
    """
    best, up = -math.inf, ahead.new_tensor([0.0, -1.0, 0.0])
    for axis in torch.cat([torch.eye(3), -torch.eye(3)]).to(ahead):
        if abs(float(axis @ ahead)) > ALONG:
            continue
        height = dirs @ normalize(axis - (axis @ ahead) * ahead, dim=0)
        rises = torch.corrcoef(torch.stack([height, distance.log()]))[0, 1].nan_to_num()
        score = float(rises) + (Y_DOWN if axis[1] < 0 else 0.0)
        if score > best:
            best, up = score, axis
    right = normalize(torch.linalg.cross(ahead, up), dim=0)
    return torch.stack([right, torch.linalg.cross(ahead, right), ahead])
