"""The photometric plane-sweep cost volume."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.correlation import zncc
from recon.model.mvs.warp import Warp, inside, sample
from render import Cameras

# Cost of points outside a source view: neither good nor bad.
UNSEEN_COST = 0.4
PLANES_AT_ONCE = 16


def cost_volume(
    images: Float[Tensor, "v 3 h w"],
    cameras: Cameras,
    view: int,
    sources: list[int],
    disparity: Float[Tensor, " d"] | Float[Tensor, "d h w"],
    radii: tuple[int, ...],
) -> Float[Tensor, "d h w"]:
    """Compute the matching costs (1 - ZNCC) / 2, 0 to 1, of a view's pixels at each disparity.

    ZNCC is averaged over the window radii. Over the source views, the mean of the better half
    counts, since a surface may be hidden from some (Kang, Szeliski & Chai 2001, "Handling
    occlusions in dense multi-view stereo").

    Args:
        images: Display sRGB in [0, 1].
        cameras: Cameras of all views.
        view: Index of the reference view.
        sources: Indices of the source views.
        disparity: Disparities (1 / world units) of planes, or a stack of disparity maps.
        radii: Half window sizes (px).
    """
    grey = images.mean(1, keepdim=True)
    if disparity.dim() == 1:
        disparity = disparity[:, None, None]
    warps = [Warp.between(cameras, view, source) for source in sources]
    costs = []
    for planes in torch.split(disparity, PLANES_AT_ONCE):
        matches = [
            _match(grey[view], grey[source], warp, planes, radii)
            for source, warp in zip(sources, warps, strict=True)
        ]
        stacked = torch.stack(matches)
        half = math.ceil(len(sources) / 2)
        costs.append(stacked.topk(half, 0, largest=False).values.mean(0))
    return torch.cat(costs)


def _match(
    reference: Float[Tensor, "1 h w"],
    source: Float[Tensor, "1 h w"],
    warp: Warp,
    planes: Float[Tensor, " d #h #w"],
    radii: tuple[int, ...],
) -> Float[Tensor, "d h w"]:
    height, width = source.shape[-2:]
    pixels, ratio = warp.pixels(planes)
    warped = sample(source.expand(len(pixels), 1, height, width), pixels)
    scores = [zncc(reference[None], warped, radius) for radius in radii]
    seen = inside(pixels, ratio, width, height)
    return torch.where(seen, (1 - torch.stack(scores).mean(0)[:, 0]) / 2, UNSEEN_COST)
