"""Pixel footprints: the size of a photo's pixel at the depth of a Gaussian."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.cameras import Cameras


@dataclass(frozen=True)
class Footprints:
    """Points as seen by the camera whose pixels are smallest at their depth."""

    camera: Int[Tensor, " n"]
    """Index of the camera; 0 for points that no camera sees."""
    pixels: Float[Tensor, "n 2"]
    """Projection into that camera's image (px)."""
    depth: Float[Tensor, " n"]
    """z in that camera (world units); 0 for points that no camera sees."""
    size: Float[Tensor, " n"]
    """Side of a pixel at that depth (world units); 0 for points that no camera sees."""

    @staticmethod
    def of(points: Float[Tensor, "n 3"], cameras: Cameras) -> "Footprints":
        """Measure the footprints of points, by projection into the image; occlusion is ignored."""
        zeros = torch.zeros_like(points[:, 0])
        nearest = torch.full_like(zeros, torch.inf)
        camera = torch.zeros_like(nearest, dtype=torch.long)
        pixels, depth, size = torch.zeros_like(points[:, :2]), zeros, zeros
        for v in range(len(cameras)):
            projected, z = cameras[v].project(points)
            focal = 0.5 * (cameras.Ks[v, 0, 0] + cameras.Ks[v, 1, 1])
            # The length of the ray, not z: cameras side by side see everything at the same z.
            distance = (points - cameras.centers[v]).norm(dim=-1) / focal
            better = cameras.contains(projected, z) & (distance < nearest)
            nearest = torch.where(better, distance, nearest)
            camera = torch.where(better, v, camera)
            pixels = torch.where(better[:, None], projected, pixels)
            depth, size = torch.where(better, z, depth), torch.where(better, z / focal, size)
        return Footprints(camera, pixels, depth, size)
