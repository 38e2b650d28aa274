"""Lights and skies of procedural scenes; linear colours."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from training.data.procedural.layout import World
from training.data.procedural.shapes import Rng, log_uniform

GREY = np.ones(3)


@dataclass(frozen=True)
class Light:
    """One light with shadows, several without, ambient light and a sky."""

    sun: Float[np.ndarray, "3"]
    """Unit direction to the sun, or position of the lamp that replaces it in closed rooms."""
    is_lamp: bool
    sun_color: Float[np.ndarray, "3"]
    """Irradiance at normal incidence; of a lamp at distance 1."""
    lamps: Float[np.ndarray, "k 3"]
    """Positions of the lights without shadows."""
    lamp_colors: Float[np.ndarray, "k 3"]
    """Irradiance at distance 1."""
    above: Float[np.ndarray, "3"]
    """Ambient light on surfaces that face up."""
    below: Float[np.ndarray, "3"]
    """Ambient light on surfaces that face down."""
    zenith: Float[np.ndarray, "3"]
    """Colour of the sky overhead."""
    horizon: Float[np.ndarray, "3"]
    """Colour of the sky at the horizon, and of haze."""
    clouds: float
    """Opacity of the clouds; 0 for a clear sky."""
    cloud_texture: int
    """Texture whose brightness gives the clouds, or of the backdrop."""
    backdrop: bool
    """Whether the texture is a photo around the scene instead of clouds."""
    haze: float
    """Fraction of a surface's colour lost to haze in a world unit."""


def random_light(rng: Rng, world: World, textures: int, noises: int) -> Light:
    """Draw the light of a scene."""
    azimuth, height = 2 * np.pi * rng.random(), rng.uniform(0.25, 1.3)
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), 0])
    sun[2] = np.sin(height)
    warm = GREY + rng.uniform(-0.2, 0.3) * np.array([1.0, 0.1, -0.8])
    size = world.high - world.low
    if world.closed:
        sun = world.low + size * rng.uniform(0.2, 0.8, 3)
        sun[2] = world.high[2]
    power = log_uniform(rng, 0.5, 2.0) * (4.0 if world.closed else 1.0)
    count = int(rng.integers(0, 5))
    lamps = world.low + size * rng.uniform(0, 1, (count, 3))
    hue = 1 + rng.uniform(0, 0.8) * rng.uniform(-1, 1, (count, 3))
    lamp_colors = hue * np.exp(rng.uniform(np.log(0.05), np.log(1.5), (count, 1)))
    zenith, horizon = _sky(rng, world)
    ambient = log_uniform(rng, 0.2, 0.7)
    cool = GREY + rng.uniform(-0.15, 0.25) * np.array([-0.6, 0.0, 1.0])
    plain = world.kind == "plain"
    backdrop = bool(not plain and rng.random() < 0.25 and textures > noises)
    clouds = float(rng.uniform(0.2, 1.0)) if rng.random() < 0.6 and not plain else 0.0
    texture = int(rng.integers(noises, textures)) if backdrop else int(rng.integers(noises))
    hazy = world.kind == "outdoor" and rng.random() < 0.4
    return Light(
        sun.astype(np.float32),
        world.closed,
        (power * warm).astype(np.float32),
        lamps.astype(np.float32),
        lamp_colors.astype(np.float32),
        (ambient * cool).astype(np.float32),
        (ambient * rng.uniform(0.3, 0.8) * warm).astype(np.float32),
        zenith.astype(np.float32),
        horizon.astype(np.float32),
        clouds,
        texture,
        backdrop,
        log_uniform(rng, 0.005, 0.06) if hazy else 0.0,
    )


def _sky(rng: Rng, world: World) -> tuple[np.ndarray, np.ndarray]:
    """Draw blue to grey skies; for plain scenes white, black or a random colour."""
    if world.kind == "plain":
        kind = rng.random()
        plain = np.full(3, 1.0 if kind < 0.4 else 0.0) if kind < 0.7 else rng.random(3) ** 2
        return plain, plain
    blue = np.array([0.12, 0.3, 0.75]) * rng.uniform(0.4, 1.3)
    grey = np.full(3, rng.uniform(0.25, 0.95))
    horizon = grey + 0.35 * rng.random() * (np.array([1.0, 0.8, 0.6]) - grey)
    return blue + (grey - blue) * rng.random() ** 2, horizon
