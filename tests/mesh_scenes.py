"""A sphere of Gaussians, to make meshes of."""

import math

import torch

from render import Cameras, Gaussians
from render.cameras import look_at
from render.directions import spread_directions

RADIUS, CENTER = 0.5, (0.2, -0.1, 3.0)


def sphere(count: int = 12000) -> Gaussians:
    """Opaque discs on a sphere, red where x is above the centre and green below."""
    outward = torch.nn.functional.normalize(spread_directions(count), dim=1).float()
    half = torch.cat([1 + outward[:, 2:], torch.zeros(count, 1)], 1)
    # Rotate z to the outward direction.
    quats = torch.stack([1 + outward[:, 2], -outward[:, 1], outward[:, 0], half[:, 1]], 1)
    quats = torch.nn.functional.normalize(quats + 1e-6, dim=1)
    size = 1.2 * RADIUS * math.sqrt(4 * math.pi / count)
    scales = torch.tensor([size, size, 0.05 * size]).expand(count, 3).clone()
    red = (outward[:, 0] > 0).float()
    colors = torch.stack([red, 1 - red, torch.zeros(count)], 1)
    return Gaussians(
        means=RADIUS * outward + torch.tensor(CENTER),
        quats=quats,
        scales=scales,
        opacities=torch.full((count,), 0.95),
        sh=((colors - 0.5) / 0.28209479)[:, None],
    )


def around(count: int = 8) -> list[Cameras]:
    """Return cameras around the sphere."""
    center = torch.tensor(CENTER)
    up = torch.tensor([0.1, -1.0, 0.2])
    viewmats = [look_at(center + 2.0 * d, center, up) for d in spread_directions(count).float()]
    return [Cameras.from_fov(v[None], 40.0, 96, 96) for v in viewmats]
