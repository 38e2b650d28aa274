"""Shading: a directional light with shadows, sky light and highlights, to display sRGB."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from render.tensors import TensorStruct
from training.data.procedural.bank import TextureBank
from training.data.procedural.hits import FirstHits, first_hits, surface
from training.data.procedural.layout import Layout
from training.data.procedural.solids import NEVER

GAMMA = 2.2


@dataclass(frozen=True)
class Light(TensorStruct):
    """A directional light, ambient light and a sky."""

    toward: Float[Tensor, "3"]
    """Unit direction to the light."""
    strength: float
    """Irradiance of the directional light at normal incidence."""
    ambient: float
    """Strength of the ambient light."""
    sky_top: Float[Tensor, "3"]
    """Linear colour of the sky at the zenith."""
    sky_bottom: Float[Tensor, "3"]
    """Linear colour of the sky at the horizon; equal to the zenith for plain backgrounds."""


def random_light(generator: torch.Generator, kind: str) -> Light:
    """Draw a light with a blue to grey sky; for plain scenes white, black or a random colour."""
    draw = torch.rand(10, generator=generator)
    toward = torch.stack([2 * draw[0] - 1, -0.2 - draw[1], 0.5 + draw[2]])
    toward = torch.nn.functional.normalize(toward, dim=0)
    if kind == "plain":
        plain = torch.tensor([0.0, 1.0])[int(draw[3] < 0.5)] if draw[4] < 0.6 else draw[5:8] ** 2
        top = bottom = plain.expand(3) * torch.ones(3)
    else:
        blue = torch.tensor([0.15, 0.35, 0.8]) * (0.4 + 0.9 * draw[3])
        grey = torch.full((3,), 0.2 + 0.7 * float(draw[4]))
        top = blue + (grey - blue) * draw[5]
        bottom = grey + 0.3 * (torch.tensor([1.0, 0.85, 0.7]) - grey) * draw[6]
    return Light(toward, 0.7 + 0.9 * float(draw[8]), 0.22 + 0.4 * float(draw[9]), top, bottom)


def shade(
    layout: Layout,
    bank: TextureBank,
    light: Light,
    origins: Float[Tensor, "r 3"],
    dirs: Float[Tensor, "r 3"],
    pixel: float,
) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r"]]:
    """Return colours and ray parameters of the first hits; sky and NEVER for rays that hit nothing.

    Args:
        layout: Solids and soups.
        bank: Textures.
        light: Light and sky.
        origins: Origins of the rays.
        dirs: Directions of the rays.
        pixel: Size of a pixel at ray parameter 1.
    """
    hits = first_hits(layout, origins, dirs)
    found = (hits.depth < NEVER).nonzero()[:, 0]
    colors = _sky(light, dirs)
    if len(found):
        here = hits[found]
        colors[found] = _surface(layout, bank, light, here, origins[found], dirs[found], pixel)
    return colors.clamp(0, 1) ** (1 / GAMMA), hits.depth


def _sky(light: Light, dirs: Float[Tensor, "r 3"]) -> Float[Tensor, "r 3"]:
    rise = torch.nn.functional.normalize(dirs, dim=-1)[:, 2:].clamp(0, 1).sqrt()
    return light.sky_bottom + (light.sky_top - light.sky_bottom) * rise


def _surface(
    layout: Layout,
    bank: TextureBank,
    light: Light,
    hits: FirstHits,
    origins: Float[Tensor, "r 3"],
    dirs: Float[Tensor, "r 3"],
    pixel: float,
) -> Float[Tensor, "r 3"]:
    """Shade by Lambert and Blinn-Phong (Blinn 1977) with one shadow ray; linear colours."""
    points = origins + hits.depth[:, None] * dirs
    normals, uv = surface(layout, hits, points, dirs)
    density = layout.density[hits.owner]
    uv = uv * density[:, None]
    albedo = bank.look_up(layout.texture[hits.owner], uv, hits.depth * pixel * density) ** GAMMA

    view = torch.nn.functional.normalize(-dirs, dim=-1)
    cosine = (normals @ light.toward).clamp_min(0)
    lit = torch.zeros_like(cosine)
    facing = (cosine > 0).nonzero()[:, 0]
    if len(facing):
        start = points[facing] + 2e-3 * normals[facing]
        toward = light.toward.expand_as(start)
        free = first_hits(layout, start, toward).depth >= NEVER
        lit[facing] = free.float()
    diffuse = light.strength * cosine * lit + light.ambient * (0.7 + 0.3 * normals[:, 2])
    half = torch.nn.functional.normalize(view + light.toward, dim=-1)
    shine = layout.gloss[hits.owner] * lit * (normals * half).sum(-1).clamp_min(0) ** 40
    return albedo * diffuse[:, None] + shine[:, None]
