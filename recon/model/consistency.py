"""Do the depth maps of different views agree?"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.model.warp import Warp, inside, sample
from render import Cameras


@dataclass(frozen=True)
class Agreement:
    """What one view's depth map says of every pixel of another view's."""

    agrees: Bool[Tensor, "h w"]
    """Both views place the surface at the same depth."""
    in_front: Bool[Tensor, "h w"]
    """The pixel's point floats in space that the other view looks through."""
    visible: Bool[Tensor, "h w"]
    """The pixel's point falls inside the other view's picture."""


def compare_depths(
    cameras: Cameras,
    disparity: Float[Tensor, "v h w"],
    tolerance: Float[Tensor, "v"],
    reference: int,
    source: int,
    confirmed=None,
) -> Agreement:
    """Judge the reference view's disparities by the source view's.

    A pixel agrees when its disparity, moved into the source view, differs from what
    stands there by at most the source's tolerance (1 / world units) or 1 %.
    """
    warp = Warp.between(cameras, reference, source)
    pixels, ratio = warp.pixels(disparity[reference])
    visible = inside(pixels, ratio, cameras.width, cameras.height)
    moved = disparity[reference] / ratio.clamp_min(1e-6)
    there = sample(disparity[source][None, None], pixels[None], mode="nearest")[0, 0]
    slack = torch.maximum(tolerance[source], 0.01 * there)
    difference = moved - there
    if confirmed is not None:
        visible = visible & (sample(confirmed[source].float()[None, None], pixels[None], mode="nearest")[0, 0] > 0.5)
    return Agreement(
        agrees=visible & (difference.abs() <= slack),
        in_front=visible & (difference > 2 * slack),
        visible=visible,
    )


def consistency_costs(
    cameras: Cameras,
    disparity: Float[Tensor, "v h w"],
    confirmed: Float[Tensor, "v h w"],
    tolerance: Float[Tensor, "v"],
    view: int,
    others: list[int],
    planes: Float[Tensor, "d"],
) -> Float[Tensor, "d h w"]:
    """What the other views' confirmed surfaces say of each plane of a view.

    +1 where a plane's point floats in front of a surface that another view has
    confirmed, so that it would hide it; -1 where it lies on one; mean over the views
    that see the point and have confirmed something there.
    """
    total = torch.zeros(len(planes), cameras.height, cameras.width).to(disparity)
    count = torch.zeros_like(total)
    for other in others:
        pixels, ratio = Warp.between(cameras, view, other).pixels(planes[:, None, None])
        maps = torch.stack([disparity[other], confirmed[other]])[None]
        there, sure = sample(maps.expand(len(planes), -1, -1, -1), pixels, "nearest").unbind(1)
        sure = sure * inside(pixels, ratio, cameras.width, cameras.height)
        difference = planes[:, None, None] / ratio.clamp_min(1e-6) - there
        slack = torch.maximum(tolerance[other], 0.01 * there)
        verdict = (difference > 2 * slack).float() - (difference.abs() <= slack).float()
        total += sure * verdict
        count += sure
    return total / count.clamp_min(1)
