"""Samples of procedural scenes: images with cameras and exact depth."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from render import Cameras
from training.data.procedural.bank import TextureBank
from training.data.procedural.builder import Layout, stage_rng
from training.data.procedural.cast import NEVER, Caster
from training.data.procedural.layout import random_world
from training.data.procedural.light import Light, random_light
from training.data.procedural.paths import clear_cameras, flat_rays
from training.data.procedural.shading import shade
from training.data.procedural.shapes import Rng
from training.data.types import SampleRequest, TrainingSample

# Depth of the sky relative to the farthest surface; maximum ratio of far to near.
SKY_FACTOR, MAX_RATIO = 2.0, 30.0
# Linear brightness that the mean of a scene's surfaces is exposed to.
MIDDLE = (0.13, 0.34)


@dataclass(frozen=True)
class ProceduralConfig:
    """Options for procedural scenes."""

    weight: float = 1.0
    """Relative frequency of this source."""
    supersampling: int = 1
    """Rays along the side of a pixel; 2 costs four times as much and antialiases edges."""
    exposure: float = 0.25
    """Maximum relative change of brightness between views."""
    noise: float = 0.02
    """Maximum standard deviation of the images' noise; half of the scenes have some."""


@dataclass(frozen=True)
class ProceduralScenes:
    """Source of procedural scenes."""

    config: ProceduralConfig
    bank: TextureBank

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return the scene of the request's seed, its views in random order."""
        return generate(request, self.config, self.bank).shuffled(request.seed)


def generate(request: SampleRequest, config: ProceduralConfig, bank: TextureBank) -> TrainingSample:
    """Generate the scene of a request, its views in order along their path."""
    seed, textures, noises = request.seed, len(bank), bank.noises
    world = random_world(seed, textures, noises, request.complexity)
    caster = Caster(world.layout)
    cameras = clear_cameras(stage_rng(seed, "cameras"), world, caster, request)
    light = random_light(stage_rng(seed, "light"), world, textures, noises)
    colors, depth = _render(world.layout, caster, bank, light, cameras, config.supersampling)
    images = _photograph(stage_rng(seed, "exposure"), colors, depth < NEVER, config)
    return _with_range(images, cameras, depth).to(torch.device(request.device))


def _render(
    layout: Layout,
    caster: Caster,
    bank: TextureBank,
    light: Light,
    cameras: Cameras,
    supersampling: int,
) -> tuple[Float[np.ndarray, "v h w 3"], Float[np.ndarray, "v h w"]]:
    """Render all views; return linear colours, and z at the pixel centres."""
    s, width, height = supersampling, cameras.width, cameras.height
    fine = cameras.resized(width * s, height * s)
    origins, dirs = flat_rays(fine)
    pixel = 1 / float(fine.Ks[0, 0, 0])
    colors, hits = shade(layout, caster, bank, light, origins, dirs, pixel)
    depth = hits.depth
    if s > 1:
        # Clipped as in the sensor, so that a bright speck does not outshine its pixel.
        colors = np.minimum(colors, 4.0).reshape(-1, height, s, width, s, 3).mean((2, 4))
        depth = caster.hits(*flat_rays(cameras)).depth
    return colors.reshape(-1, height, width, 3), depth.reshape(-1, height, width)


def _photograph(
    rng: Rng,
    colors: Float[np.ndarray, "v h w 3"],
    solid: np.ndarray,
    config: ProceduralConfig,
) -> Float[np.ndarray, "v 3 h w"]:
    """Convert linear colours to images: exposure, white balance, softness, gamma 2 and noise."""
    views = len(colors)
    mean = float(colors[solid].mean()) if solid.any() else 0.5
    # Bright surfaces in front of bright skies stay bright: only a part of the way.
    gain = (rng.uniform(*MIDDLE) / max(mean, 1e-3)) ** 0.9
    gains = gain * (1 + config.exposure * rng.uniform(-1, 1, (views, 1)))
    gains = gains * (1 + rng.uniform(0, 0.04) * rng.standard_normal((views, 3)))
    images = colors * gains.astype(np.float32)[:, None, None]
    images = np.asarray(np.sqrt(np.clip(images, 0, 1))).transpose(0, 3, 1, 2)
    if rng.random() < 0.4:
        images = _softened(images, float(rng.uniform(0.1, 0.6)))
    if rng.random() < 0.5:
        sigma = float(config.noise * rng.random())
        images = images + sigma * rng.standard_normal(images.shape, np.float32)
    return np.asarray(np.clip(images, 0, 1), np.float32)


def _softened(images: Float[np.ndarray, "v 3 h w"], amount: float) -> np.ndarray:
    """Blend with a 3 by 3 binomial blur."""
    for axis in (2, 3):
        width = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        moved = np.moveaxis(np.pad(images, width, mode="edge"), axis, 0)
        blurred = np.moveaxis(moved[:-2] + 2 * moved[1:-1] + moved[2:], 0, axis) / 4
        images = images + np.float32(amount) * (blurred - images)
    return np.asarray(images)


def _with_range(
    images: Float[np.ndarray, "v 3 h w"], cameras: Cameras, depth: Float[np.ndarray, "v h w"]
) -> TrainingSample:
    """Limit depths to a range that a network can predict.

    `far` is the farthest surface, or twice that if there is sky, and at most 30 times `near`.
    """
    solid = depth[depth < NEVER]
    near = float(solid.min()) if len(solid) else 1.0
    farthest = float(solid.max()) if len(solid) else 2.0
    sky = bool((depth >= NEVER).any())
    far = min(farthest * (SKY_FACTOR if sky else 1.0), near * MAX_RATIO)
    ends = (torch.full((len(images),), end) for end in (near, far))
    limited = torch.from_numpy(depth.astype(np.float32)).clamp(max=far)
    return TrainingSample(torch.from_numpy(np.ascontiguousarray(images)), cameras, limited, *ends)
