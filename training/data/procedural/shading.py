"""Shading of hits on all views at once: Lambert, one shadow ray, lamps, highlights and haze."""

import numpy as np
from jaxtyping import Float

from training.data.procedural.bank import TextureBank
from training.data.procedural.builder import Layout
from training.data.procedural.cast import Caster, Hits
from training.data.procedural.light import Light

# Distance of the origins of shadow rays from surfaces, relative to depth.
OFFSET = 2e-3
SHININESS = 30


def shade(
    layout: Layout,
    caster: Caster,
    bank: TextureBank,
    light: Light,
    origins: Float[np.ndarray, "r 3"],
    dirs: Float[np.ndarray, "r 3"],
    pixel: float,
) -> tuple[Float[np.ndarray, "r 3"], Hits]:
    """Return linear colours and first hits.

    Args:
        layout: The triangles.
        caster: The triangles' ray-casting tree.
        bank: Textures.
        light: Lights and sky.
        origins: Origins of the rays (float32).
        dirs: Directions with unit depth (float32).
        pixel: Size of a pixel at depth 1.
    """
    hits = caster.hits(origins, dirs)
    colors = np.empty_like(dirs)
    found = hits.face >= 0
    lengths = np.sqrt(np.einsum("ij,ij->i", dirs, dirs))
    toward = dirs / lengths[:, None]
    sky = np.flatnonzero(~found)
    colors[sky] = _sky(bank, light, toward[sky])
    index = np.flatnonzero(found)
    if len(index):
        here = Hits(hits.depth[index], hits.face[index], hits.weights[index])
        points = origins[index] + here.depth[:, None] * dirs[index]
        colors[index] = _surface(layout, caster, bank, light, here, points, toward[index], pixel)
    return colors, hits


def _sky(
    bank: TextureBank, light: Light, toward: Float[np.ndarray, "r 3"]
) -> Float[np.ndarray, "r 3"]:
    """Colour directions: a gradient with clouds on a plane, or a photo around the scene."""
    if not len(toward):
        return toward
    rise = np.clip(toward[:, 2:], 0, 1)
    color = _gradient(light, rise)
    if light.backdrop:
        angle = np.arctan2(toward[:, 1], toward[:, 0]) / np.pi
        uv = np.stack([angle, 0.5 - 0.55 * toward[:, 2]], -1)
        return bank.look_up(np.full(len(uv), light.cloud_texture), uv, np.full(len(uv), 4e-3))
    if light.clouds:
        uv = 0.25 * toward[:, :2] / (rise + 0.15)
        footprint = 0.004 / (rise[:, 0] + 0.1)
        tone = bank.look_up(np.full(len(uv), light.cloud_texture), uv, footprint).mean(1)
        cover = light.clouds * np.clip(2.5 * tone[:, None] - 0.4, 0, 1) * np.minimum(4 * rise, 1)
        color = color + cover * (0.9 * light.horizon.max() - color)
    return np.asarray(color, np.float32)


def _gradient(light: Light, rise: Float[np.ndarray, "r 1"]) -> Float[np.ndarray, "r 3"]:
    return np.asarray(light.horizon + (light.zenith - light.horizon) * np.sqrt(rise), np.float32)


def _surface(
    layout: Layout,
    caster: Caster,
    bank: TextureBank,
    light: Light,
    hits: Hits,
    points: Float[np.ndarray, "r 3"],
    toward: Float[np.ndarray, "r 3"],
    pixel: float,
) -> Float[np.ndarray, "r 3"]:
    """Shade surfaces by Lambert and Blinn-Phong (Blinn 1977)."""
    corner = np.take(layout.corners, hits.face, 0)
    attributes = np.einsum("rk,rka->ra", hits.weights, corner)
    material = np.take(layout.material, hits.face)
    facts = np.take(layout.facts, material, 0)
    normals, uv = attributes[:, :3], attributes[:, 3:]
    across = np.einsum("ij,ij->i", normals, toward)
    size = np.sqrt(np.einsum("ij,ij->i", normals, normals)) + 1e-9
    normals = normals * (np.where(across > 0, -1, 1) / size)[:, None].astype(np.float32)
    slant = np.sqrt(np.maximum(np.abs(across) / size, 0.15))
    footprint = hits.depth * pixel * facts[:, 0] / slant
    texture = bank.look_up(np.take(layout.texture, material), uv, footprint)
    strength = facts[:, 1:2]
    albedo = facts[:, 2:5] * (1 + strength * (texture - 1))

    to_sun, sun = _sun(caster, light, hits, points, normals)
    up = 0.5 + 0.5 * normals[:, 2:]
    diffuse = light.below + up * (light.above - light.below)
    diffuse = diffuse + sun[:, None] * light.sun_color + _lamps(light, points, normals)
    color = albedo * diffuse
    gloss, metal = facts[:, 5], facts[:, 6]
    shiny = np.flatnonzero(gloss + metal)
    if len(shiny):
        n, d = normals[shiny], toward[shiny]
        bounce = d - 2 * np.einsum("ij,ij->i", n, d)[:, None] * n
        sky = 0.6 * _gradient(light, np.clip(0.5 + 0.5 * bounce[:, 2:], 0, 1)) + 0.1
        color[shiny] += metal[shiny, None] * (albedo[shiny] * sky - 0.7 * color[shiny])
        half = to_sun[shiny] - d
        half /= np.sqrt(np.einsum("ij,ij->i", half, half))[:, None] + 1e-6
        peak = np.maximum(np.einsum("ij,ij->i", n, half), 0) ** SHININESS
        shine = (gloss + metal)[shiny] * peak * (sun[shiny] > 0)
        color[shiny] += shine[:, None] * 0.6 * np.minimum(light.sun_color, np.float32(1.5))
    if light.haze:
        veil = 1 - np.exp(-light.haze * hits.depth)[:, None]
        color = color + veil * (light.horizon - color)
    return np.asarray(color, np.float32)


def _sun(
    caster: Caster,
    light: Light,
    hits: Hits,
    points: Float[np.ndarray, "r 3"],
    normals: Float[np.ndarray, "r 3"],
) -> tuple[Float[np.ndarray, "r 3"], Float[np.ndarray, " r"]]:
    """Return directions to the light with shadows, and its irradiance relative to its colour."""
    sun = light.sun
    if light.is_lamp:
        ray = sun - points
        square = np.einsum("ij,ij->i", ray, ray)
        toward, reach = ray / np.sqrt(square)[:, None], 0.98
        power = 1 / (square + 0.3)
    else:
        ray = toward = np.broadcast_to(sun, points.shape)
        power, reach = np.ones(len(points), np.float32), 1e9
    cosine = np.einsum("ij,ij->i", normals, toward)
    lit = np.flatnonzero(cosine > 0)
    start = points[lit] + (OFFSET * (0.5 + hits.depth[lit]))[:, None] * normals[lit]
    sun_light = np.zeros(len(points), np.float32)
    sun_light[lit] = cosine[lit] * power[lit] * caster.free(start, ray[lit], reach)
    return toward, sun_light


def _lamps(
    light: Light, points: Float[np.ndarray, "r 3"], normals: Float[np.ndarray, "r 3"]
) -> Float[np.ndarray, "r 3"]:
    """Sum the lights without shadows: inverse squares and cosines."""
    if not len(light.lamps):
        return np.zeros_like(points)
    lamps = light.lamps
    squares = (points * points).sum(1)[:, None] - 2 * points @ lamps.T + (lamps * lamps).sum(1)
    squares = np.maximum(squares, 0.0)
    facing = normals @ lamps.T - np.einsum("ij,ij->i", normals, points)[:, None]
    power = np.maximum(facing, 0) / (np.sqrt(squares + 1e-6) * (squares + 0.4))
    return np.asarray(power @ light.lamp_colors)
