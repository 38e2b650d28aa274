"""Samples of procedural scenes: images with cameras and exact depth."""

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
# Minimum distance of surfaces from the cameras (world units); maximum fraction of sky pixels.
MIN_DEPTH, MAX_SKY = 0.25, 0.7
# Depth of the sky relative to the farthest surface; maximum ratio of far to near.
SKY_FACTOR, MAX_RATIO = 2.0, 30.0


@dataclass(frozen=True)
class ProceduralConfig:
    """Options for procedural scenes."""

    weight: float = 1.0
    """Relative frequency of this source."""
    supersampling: int = 1
    """Rays along the side of a pixel; 2 costs four times as much and antialiases edges."""
    exposure: float = 0.2
    """Maximum relative change of brightness between views."""


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
    generator, device = request.generator(), torch.device(request.device)
    layout = random_layout(generator, len(bank))
    light = random_light(generator, layout.kind).to(device)
    layout = layout.to(device)
    cameras = _clear_cameras(generator, layout, request).to(device)
    gains = 1 + config.exposure * (2 * torch.rand(request.views, generator=generator) - 1)
    images_and_depths = [
        _render(layout, bank, light, cameras[v], float(gains[v]), config.supersampling)
        for v in range(request.views)
    ]
    images, depth = (torch.stack(parts) for parts in zip(*images_and_depths, strict=True))
    return _with_range(images, cameras, depth)


def _clear_cameras(generator: torch.Generator, layout: Layout, request: SampleRequest) -> Cameras:
    """Draw cameras that are outside all objects and see some; the last attempt if none succeeds."""
    for _ in range(TRIES):
        cameras = random_cameras(generator, request)
        rays_o, rays_d = (r.reshape(-1, 3) for r in cameras.resized(12, 12).rays())
        device = layout.gloss.device
        depth = first_hits(layout, rays_o.to(device), rays_d.to(device)).depth
        if float(depth.min()) > MIN_DEPTH and float((depth >= NEVER).float().mean()) < MAX_SKY:
            break
    return cameras


def _render(
    layout: Layout,
    bank: TextureBank,
    light: Light,
    camera: Cameras,
    gain: float,
    supersampling: int,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "h w"]]:
    """Render one view with its own exposure; return colours, and z at the pixel centres."""
    fine = camera.resized(camera.width * supersampling, camera.height * supersampling)
    rays_o, rays_d = (r.reshape(-1, 3) for r in fine.rays())
    pixel = 1 / float(fine.Ks[0, 0])
    colors, depth = shade(layout, bank, light, rays_o, rays_d, pixel)
    image = (gain * colors).clamp(0, 1).T.reshape(1, 3, fine.height, fine.width)
    if supersampling > 1:
        image = torch.nn.functional.avg_pool2d(image, supersampling)
        rays_o, rays_d = (r.reshape(-1, 3) for r in camera.rays())
        depth = first_hits(layout, rays_o, rays_d).depth
    return image[0], depth.reshape(camera.height, camera.width)


def _with_range(
    images: Float[Tensor, "v 3 h w"], cameras: Cameras, depth: Float[Tensor, "v h w"]
) -> TrainingSample:
    """Limit depths to a range that a network can predict.

    `far` is the farthest surface, or twice that if there is sky, and at most 30 times `near`.
    """
    solid = depth[depth < NEVER]
    near = float(solid.min()) if len(solid) else 1.0
    farthest = float(solid.max()) if len(solid) else 2.0
    sky = bool((depth >= NEVER).any())
    far = min(farthest * (SKY_FACTOR if sky else 1.0), near * MAX_RATIO)
    ends = (images.new_full((len(images),), end) for end in (near, far))
    return TrainingSample(images, cameras, depth.clamp(max=far), *ends)
