"""One training sample: pictures of a random scene with cameras and exact depth."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras
from training.data.procedural.bank import TextureBank
from training.data.procedural.hits import first_hits
from training.data.procedural.layout import Layout, random_cameras, random_layout
from training.data.procedural.shading import Light, random_light, shade
from training.data.procedural.solids import NEVER
from training.data.types import SampleRequest, TrainingSample

TRIES = 20
# Nothing may be nearer to a camera than this (world units), nor fill the picture as sky.
MIN_DEPTH, MAX_SKY = 0.25, 0.7
# Sky has no depth: it is put this much beyond the farthest thing.
SKY_FACTOR, MAX_RATIO = 2.0, 30.0


@dataclass(frozen=True)
class ProceduralConfig:
    """What a sample looks like."""

    weight: float = 1.0
    """How often scenes come from here, relative to the other sources."""
    supersampling: int = 1
    """Rays along a pixel's side; 2 costs four times as much and smooths edges as photos do."""
    exposure: float = 0.2
    """Largest change of brightness from view to view, as a fraction."""


@dataclass(frozen=True)
class ProceduralScenes:
    """The source."""

    config: ProceduralConfig
    bank: TextureBank

    def sample(self, request: SampleRequest) -> TrainingSample:
        """A scene of its own for every seed, its views in random order."""
        return generate(request, self.config, self.bank).shuffled(request.seed)


def generate(request: SampleRequest, config: ProceduralConfig, bank: TextureBank) -> TrainingSample:
    """The sample of this request, views along their path."""
    generator, device = request.generator(), torch.device(request.device)
    layout = random_layout(generator, len(bank))
    light = random_light(generator, layout.kind).to(device)
    layout = layout.to(device)
    cameras = _clear_cameras(generator, layout, request).to(device)
    gains = 1 + config.exposure * (2 * torch.rand(request.views, generator=generator) - 1)
    pictures = [
        _picture(layout, bank, light, cameras[v], float(gains[v]), config.supersampling)
        for v in range(request.views)
    ]
    images, depth = (torch.stack(parts) for parts in zip(*pictures, strict=True))
    return _with_range(images, cameras, depth)


def _clear_cameras(generator: torch.Generator, layout: Layout, request: SampleRequest) -> Cameras:
    """Cameras that are not inside things and do see some; the last try if none is clear."""
    for _ in range(TRIES):
        cameras = random_cameras(generator, request)
        rays_o, rays_d = (r.reshape(-1, 3) for r in cameras.resized(12, 12).rays())
        device = layout.gloss.device
        depth = first_hits(layout, rays_o.to(device), rays_d.to(device)).depth
        if float(depth.min()) > MIN_DEPTH and float((depth >= NEVER).float().mean()) < MAX_SKY:
            break
    return cameras


def _picture(
    layout: Layout,
    bank: TextureBank,
    light: Light,
    camera: Cameras,
    gain: float,
    supersampling: int,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]:
    """Colours with an exposure of their own, and z at the pixels' centres."""
    fine = camera.resized(camera.width * supersampling, camera.height * supersampling)
    rays_o, rays_d = (r.reshape(-1, 3) for r in fine.rays())
    pixel = 1 / float(fine.Ks[0, 0])
    colors, depth = shade(layout, bank, light, rays_o, rays_d, pixel)
    picture = (gain * colors).clamp(0, 1).T.reshape(1, 3, fine.height, fine.width)
    if supersampling > 1:
        picture = torch.nn.functional.avg_pool2d(picture, supersampling)
        rays_o, rays_d = (r.reshape(-1, 3) for r in camera.rays())
        depth = first_hits(layout, rays_o, rays_d).depth
    return picture[0], depth.reshape(camera.height, camera.width)


def _with_range(
    images: Float[Tensor, "v 3 h w"], cameras: Cameras, depth: Float[Tensor, "v h w"]
) -> TrainingSample:
    """Depths cut to a range that a network can be asked for: up to `far`, which is twice the
    farthest surface's where there is sky, and at most 30 times near."""
    solid = depth[depth < NEVER]
    near = float(solid.min()) if len(solid) else 1.0
    farthest = float(solid.max()) if len(solid) else 2.0
    sky = bool((depth >= NEVER).any())
    far = min(farthest * (SKY_FACTOR if sky else 1.0), near * MAX_RATIO)
    ends = (images.new_full((len(images),), end) for end in (near, far))
    return TrainingSample(images, cameras, depth.clamp(max=far), *ends)
