"""Plane-induced warps between views, and sampling of images at warped positions."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.model.layers.precision import full_precision
from render import Cameras
from render.cameras import pixel_centers


@dataclass(frozen=True)
class Warp:
    """The map of a reference view's pixels into a source view, for any disparity.

    The homogeneous source pixel of a reference pixel at disparity d is
    `infinite + d * parallax` (a plane-induced homography, Hartley & Zisserman 2003,
    eq. 13.1, applied pixel by pixel).
    """

    infinite: Float[Tensor, "*p h w 3"]
    parallax: Float[Tensor, "*q 3"]

    @staticmethod
    def between(cameras: Cameras, reference: int, source: int) -> "Warp":
        """Compute the warp from view `reference` into view `source`."""
        viewmats, Ks = cameras.viewmats, cameras.Ks
        relative = viewmats[source] @ cameras.c2w[reference]
        y, x = pixel_centers(cameras.height, cameras.width, Ks)
        pixels = torch.stack([x, y, torch.ones_like(x)], -1)
        to_source = Ks[source] @ relative[:3, :3] @ torch.linalg.inv(Ks[reference])
        return Warp(pixels @ to_source.T, Ks[source] @ relative[:3, 3])

    @staticmethod
    @full_precision
    def pairs(cameras: Cameras, reference: Int[Tensor, " p"], source: Int[Tensor, " p"]) -> "Warp":
        """Compute the warps of pairs of views, with an axis for planes.

        They apply to disparities [p d h w].
        """
        viewmats, Ks = cameras.viewmats, cameras.Ks
        relative = viewmats[source] @ cameras.c2w[reference]
        y, x = pixel_centers(cameras.height, cameras.width, Ks)
        pixels = torch.stack([x, y, torch.ones_like(x)], -1)
        to_source = Ks[source] @ relative[:, :3, :3] @ torch.linalg.inv(Ks[reference])
        infinite = torch.einsum("hwj,pij->phwi", pixels, to_source)
        parallax = (Ks[source] @ relative[:, :3, 3:])[..., 0]
        return Warp(infinite[:, None], parallax[:, None, None, None])

    def pixels(
        self, disparity: Float[Tensor, "*d #h #w"]
    ) -> tuple[Float[Tensor, "*d h w 2"], Float[Tensor, "*d h w"]]:
        """Return source pixels, and source depth over reference depth (negative = behind)."""
        points = self.infinite + disparity[..., None] * self.parallax
        ratio = points[..., 2]
        safe = torch.where(ratio.abs() < 1e-9, 1e-9, ratio)
        return points[..., :2] / safe[..., None], ratio


def sample(
    images: Float[Tensor, "d c hs ws"],
    pixels: Float[Tensor, "d h w 2"],
    mode: str = "bilinear",
) -> Float[Tensor, "d c h w"]:
    """Sample images at continuous pixel positions (centres at +0.5); outside, the border repeats.

    Non-finite positions are replaced by the centre: torch's gradient would write to memory outside
    the image.
    """
    height, width = images.shape[-2:]
    size = torch.tensor([width, height], dtype=pixels.dtype, device=pixels.device)
    grid = (pixels / size * 2 - 1).nan_to_num(nan=0.0).clamp(-4, 4)
    return torch.nn.functional.grid_sample(
        images, grid, mode=mode, padding_mode="border", align_corners=False
    )


def sample_planes(
    images: Float[Tensor, "p c hs ws"], pixels: Float[Tensor, "p d h w 2"]
) -> Float[Tensor, "p c d h w"]:
    """Sample each image at one set of positions per plane."""
    planes, height = pixels.shape[1:3]
    sampled: Tensor = sample(images, pixels.flatten(1, 2)).unflatten(2, (planes, height))
    return sampled


def inside(
    pixels: Float[Tensor, "*d 2"], ratio: Float[Tensor, "*d"], width: int, height: int
) -> Bool[Tensor, "*d"]:
    """Return whether positions lie in front of the camera and within its image."""
    x, y = pixels.unbind(-1)
    return (ratio > 1e-6) & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)


@full_precision
def source_pixels(
    cameras: Cameras,
    reference: Int[Tensor, " p"],
    source: Int[Tensor, " p"],
    disparity: Float[Tensor, "p d h w"],
) -> tuple[Float[Tensor, "p d h w 2"], Bool[Tensor, "p d h w"]]:
    """Project pixels of reference views into source views; also return whether they are visible."""
    pixels, ratio = Warp.pairs(cameras, reference, source).pixels(disparity)
    return pixels, inside(pixels, ratio, cameras.width, cameras.height)
