"""Random paths of cameras: orbits, walks, forward motion and views from the inside of a room."""

import math

import numpy as np
import torch
from jaxtyping import Float

from render import Cameras
from render.cameras import look_at
from training.data.procedural.cast import NEVER, Caster
from training.data.procedural.layout import World
from training.data.procedural.shapes import Rng, log_uniform
from training.data.types import SampleRequest

TRIES = 24
# Side of the images that a path is chosen by (px).
SMALL_PX = 14
# Minimum distance from bounding boxes (world units); minimum depth relative to the median.
CLEARANCE, MIN_DEPTH = 0.08, 0.09
# Maximum fraction of sky pixels; minimum fraction of each view's pixels that another one sees.
MAX_SKY, MIN_OVERLAP = 0.65, 0.4
# How closely two depths of one surface agree.
TOLERANCE = 0.06


def clear_cameras(rng: Rng, world: World, caster: Caster, request: SampleRequest) -> Cameras:
    """Draw cameras outside all things, with overlapping views; the best attempt if none is good."""
    best, best_score = None, -1.0
    for attempt in range(TRIES):
        cameras = _draw(rng, world, request, 0.93**attempt)
        score = _score(cameras, world, caster)
        if best is None or score > best_score:
            best, best_score = cameras, score
        if score >= 1:
            break
    assert best is not None
    return best


def _draw(rng: Rng, world: World, request: SampleRequest, shrink: float) -> Cameras:
    """Draw one path; `shrink` scales the distances between its cameras."""
    kind = rng.choice(["orbit", "walk", "forward", "inside"], p=[0.45, 0.25, 0.12, 0.18])
    views = request.views
    k = np.arange(views) - (views - 1) / 2
    k = k + rng.uniform(-0.25, 0.25, views)
    step = shrink * request.baseline * math.radians(log_uniform(rng, 1.5, 25.0))
    step = min(step, 1.6 / max(views - 1, 1)) * rng.choice([-1, 1])
    target = np.array([*rng.uniform(-0.6, 0.6, 2), rng.uniform(0.1, 1.0)])
    if world.kind != "room":
        target *= 0.7
    azimuth, lift = 2 * np.pi * rng.random(), math.radians(rng.uniform(-5, 45))
    if world.kind == "table":
        azimuth = -np.pi / 2 + rng.uniform(-0.9, 0.9)
    distance = log_uniform(rng, 1.0, 3.5)
    around = np.array([math.cos(azimuth), math.sin(azimuth), math.tan(lift)])
    side = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    wobble = 0.12 * abs(step) * distance * rng.standard_normal((views, 3))
    targets = np.tile(target, (views, 1)) + 0.04 * distance * rng.standard_normal((views, 3))
    start = target + distance * around
    if kind == "orbit":
        angles = azimuth + step * k
        ring = np.stack([np.cos(angles), np.sin(angles), np.full(views, math.tan(lift))], 1)
        centers = target + distance * ring + wobble
    elif kind == "walk":
        centers = start + distance * step * k[:, None] * side + wobble
        targets = targets + (rng.random() < 0.6) * (centers - start)
    elif kind == "forward":
        centers = start - 0.7 * distance * step * k[:, None] * around + wobble
    else:
        start = rng.uniform(world.low, world.high)
        heading = azimuth + 0.5 * step * k
        ahead = np.stack([np.cos(heading), np.sin(heading), rng.uniform(-0.4, 0.2, views) * 0.5], 1)
        centers = start + 1.5 * step * k[:, None] * side + wobble
        targets = centers + ahead
    if kind != "inside":
        centers = np.clip(centers, world.low, world.high)
    return _cameras(rng, centers, targets, request)


def _cameras(rng: Rng, centers: np.ndarray, targets: np.ndarray, request: SampleRequest) -> Cameras:
    """Aim from the centres at the targets, with some roll, a random lens and principal point."""
    width, height = request.width, request.height
    up = np.array([0, 0, 1.0]) + rng.normal(0, 0.06, 3) + rng.normal(0, 0.03, (len(centers), 3))
    viewmats = torch.stack(
        [
            look_at(*(torch.from_numpy(row).float() for row in rows))
            for rows in zip(centers, targets, up, strict=True)
        ]
    )
    center_px = (width * rng.uniform(0.46, 0.54), height * rng.uniform(0.46, 0.54))
    fov_deg = log_uniform(rng, 30.0, 95.0)
    return Cameras.from_fov(viewmats, fov_deg, width, height, "width", center_px)


def flat_rays(cameras: Cameras) -> tuple[Float[np.ndarray, "r 3"], Float[np.ndarray, "r 3"]]:
    """Return origins and directions (unit depth) of the rays of all pixels of all cameras."""
    K, rotmats = cameras.Ks.numpy(), cameras.viewmats[:, :3, :3].numpy()
    x = (np.arange(cameras.width) + 0.5 - K[:, :1, 2]) / K[:, :1, 0]
    y = (np.arange(cameras.height) + 0.5 - K[:, 1:2, 2]) / K[:, 1:2, 1]
    local = np.ones((len(K), cameras.height, cameras.width, 3), np.float32)
    local[..., 0], local[..., 1] = x[:, None], y[:, :, None]
    dirs = local.reshape(len(K), -1, 3) @ rotmats
    origins = np.repeat(cameras.centers.numpy(), dirs.shape[1], 0)
    return origins, dirs.reshape(-1, 3)


def _score(cameras: Cameras, world: World, caster: Caster) -> float:
    """Score a path: 1 or more is good, below 0 is in or too near to something."""
    centers = cameras.centers.numpy()
    within = (centers >= world.low - 1e-3).all() and (centers <= world.high + 1e-3).all()
    low, high = world.layout.low - CLEARANCE, world.layout.high + CLEARANCE
    if bool(((centers[:, None] > low) & (centers[:, None] < high)).all(-1).any()) or not within:
        return -0.9
    small = cameras.resized(SMALL_PX, SMALL_PX)
    origins, dirs = flat_rays(small)
    hits = caster.hits(origins, dirs)
    depth = hits.depth.reshape(len(centers), -1)
    sky = depth >= NEVER
    if float(sky.mean(1).max()) > MAX_SKY:
        return -float(sky.mean(1).max()) / 2
    median = np.median(np.where(sky, np.nan, depth)[~sky])
    if float(depth.min()) < max(0.12, MIN_DEPTH * float(median)):
        return -0.4
    # A view of little but one surface teaches nothing.
    material = np.where(hits.face < 0, -1, world.layout.material[hits.face])
    largest = max(np.bincount(row + 1).max() for row in material.reshape(depth.shape))
    several = 1 - float(largest) / depth.shape[1]
    spread = np.median(np.abs(np.log(depth[~sky]) - np.log(median)))
    return min(overlap(small, depth) / MIN_OVERLAP, 0.2 + float(spread) / 0.12, several / 0.12)


def overlap(cameras: Cameras, depth: Float[np.ndarray, "v p"]) -> float:
    """Return the smallest, over the views, fraction of its surface pixels that another view sees.

    Args:
        cameras: v cameras with p pixels each.
        depth: z of the pixels; NEVER for sky.
    """
    origins, dirs = flat_rays(cameras)
    views = len(depth)
    points = origins + np.minimum(depth, 1e4).reshape(-1, 1) * dirs
    matrices = cameras.viewmats.numpy()
    local = points @ matrices[:, :3, :3].transpose(0, 2, 1) + matrices[:, None, :3, 3]
    K, z = cameras.Ks.numpy(), local[..., 2]
    ahead = np.where(z > 1e-3, z, 1.0)
    x = np.floor(local[..., 0] / ahead * K[:, 0, 0, None] + K[:, 0, 2, None]).astype(int)
    y = np.floor(local[..., 1] / ahead * K[:, 1, 1, None] + K[:, 1, 2, None]).astype(int)
    inside = (z > 1e-3) & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
    index = np.where(inside, y * cameras.width + x, 0)
    seen = np.take_along_axis(depth, index, 1)
    visible = inside & (np.abs(seen - z) < TOLERANCE * z)
    visible = visible.reshape(views, views, -1)
    visible[np.arange(views), np.arange(views)] = False
    solid = depth < NEVER
    counts = np.maximum(solid.sum(1), 1)
    pairs = (visible & solid).sum(-1) / counts
    # The best other view decides, and the mean over all others must not be far below.
    others = pairs.sum(0) / max(views - 1, 1)
    return float(np.minimum(pairs.max(0), 1.6 * others).min())
