"""Small batches for the tests of networks."""

from dataclasses import replace
from functools import cache

import torch

from recon.model.api import ViewBatch
from render import Cameras, Gaussians, Sim3, rasterize
from training.data.sample_scene import SampleImage, render_sample, sample_cameras

NEAR, FAR = 2.0, 8.0


def sample_batch(views: list[int], width: int = 64, height: int = 64) -> ViewBatch:
    """Views of the sample scene, ray-cast at the given size."""
    images = torch.stack([ray_cast(view, width, height, 3).rgb for view in views])
    return batch_of(images, sample_cameras(width, height)[views])


def sample_depth(views: list[int], width: int = 64, height: int = 64) -> torch.Tensor:
    """Exact depth [1, v, h, w] of the same views."""
    return torch.stack([ray_cast(view, width, height, 1).depth for view in views])[None]


@cache
def ray_cast(view: int, width: int, height: int, supersampling: int) -> SampleImage:
    """A view of the sample scene; the same object to all tests."""
    camera = sample_cameras(width, height)[[view]]
    return render_sample(camera, supersampling=supersampling)


def batch_of(images: torch.Tensor, cameras: Cameras) -> ViewBatch:
    """A float32 batch of one scene."""
    single = cameras.to(torch.float32)
    batched = single.unflatten(1)
    near = torch.full((1, len(images)), NEAR)
    return ViewBatch(images.float()[None], batched, near, torch.full_like(near, FAR))


def random_batch(
    generator: torch.Generator, scenes: int, views: int, width: int, height: int
) -> ViewBatch:
    """Noise images with cameras on an arc that differs between the scenes."""
    parts = []
    for scene in range(scenes):
        cameras = sample_cameras(width, height)
        index = torch.arange(views) % len(cameras)
        viewmats = cameras.viewmats[index].clone()
        viewmats[:, :3, 3] += 0.2 * torch.randn(views, 3, generator=generator) + scene
        moved = replace(cameras, viewmats=viewmats, Ks=cameras.Ks[index])
        images = torch.rand(views, 3, height, width, generator=generator)
        parts.append(batch_of(images, moved))
    return stack(parts)


def stack(parts: list[ViewBatch]) -> ViewBatch:
    """Concatenate scenes to one batch."""
    cameras = replace(
        parts[0].cameras,
        viewmats=torch.cat([p.cameras.viewmats for p in parts]),
        Ks=torch.cat([p.cameras.Ks for p in parts]),
    )
    return ViewBatch(
        torch.cat([p.images for p in parts]),
        cameras,
        torch.cat([p.near for p in parts]),
        torch.cat([p.far for p in parts]),
    )


def moved(batch: ViewBatch, transform: Sim3) -> ViewBatch:
    """The same views in another world frame."""
    cameras = batch.cameras.transformed(transform)
    scale = transform.scale.to(batch.near)
    return ViewBatch(batch.images, cameras, scale * batch.near, scale * batch.far)


def render_view(gaussians: Gaussians, batch: ViewBatch, view: int) -> torch.Tensor:
    """Render the first scene's Gaussians with one of the batch's cameras."""
    camera = batch.cameras[view].flatten()
    return rasterize(gaussians.map(lambda t: t[0]), camera).rgb[0]
