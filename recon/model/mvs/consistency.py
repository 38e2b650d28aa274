"""Geometric and photometric consistency of the depth maps of different views."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.model.mvs.warp import Warp, inside, sample
from render import Cameras

# Depths are equal if their disparities differ by less than the tolerance or this fraction.
RELATIVE_TOLERANCE = 0.01
# A visible point whose colour in another view differs by more than this (display sRGB, any
# channel) does not lie on the surface that the view sees.
MAX_COLOR_DIFFERENCE = 0.07
# Number of views that must see through a point before it is removed.
MIN_VIEWS_SEEING_THROUGH = 2


@dataclass(frozen=True)
class DepthMaps:
    """Depth of every view as disparity (1 / world units), with its tolerance."""

    cameras: Cameras
    disparity: Float[Tensor, "v h w"]
    tolerance: Float[Tensor, " v #h #w"]
    """Disparities closer than this count as equal (1 / world units)."""
    colors: Float[Tensor, "v 3 h w"]
    """Slightly blurred images of the views."""

    def at(
        self, view: int, pixels: Float[Tensor, "d h w 2"]
    ) -> tuple[Float[Tensor, "d h w"], Float[Tensor, "d h w"]]:
        """Sample a view's disparity and its tolerance at pixel positions."""
        disparity = self.disparity[view]
        pair = torch.stack([disparity, self.tolerance[view].expand_as(disparity)])
        pair = sample(pair.expand(len(pixels), -1, -1, -1), pixels, "nearest")
        sampled, tolerance = pair.unbind(1)
        return sampled, torch.maximum(tolerance, RELATIVE_TOLERANCE * sampled)

    def compare(self, view: int, other: int) -> "Agreement":
        """Compare a view's depths with another view's."""
        pixels, ratio = Warp.between(self.cameras, view, other).pixels(self.disparity[view])
        visible = inside(pixels, ratio, self.cameras.width, self.cameras.height)
        sampled, tolerance = (t[0] for t in self.at(other, pixels[None]))
        difference = self.disparity[view] / ratio.clamp_min(1e-6) - sampled
        color = sample(self.colors[other][None], pixels[None])[0]
        same_color = (color - self.colors[view]).abs().amax(0) <= MAX_COLOR_DIFFERENCE
        return Agreement(
            pixels=pixels,
            agrees=visible & same_color & (difference.abs() <= tolerance),
            in_front=visible & (difference > 2 * tolerance),
            same_color=same_color,
        )


@dataclass(frozen=True)
class Agreement:
    """Every pixel of a view compared with another view's depth map."""

    pixels: Float[Tensor, "h w 2"]
    """Positions of the pixels' points in the other view (px)."""
    agrees: Bool[Tensor, "h w"]
    """Both views have the surface at the same depth and in the same colour."""
    in_front: Bool[Tensor, "h w"]
    """The point would occlude the surface that the other view found."""
    same_color: Bool[Tensor, "h w"]
    """The other view has the same colour at the point's projection."""


def check_consistency(
    maps: DepthMaps, sources: list[list[int]], confirmations: int = 1
) -> tuple[Bool[Tensor, "v h w"], Bool[Tensor, "v h w"]]:
    """Find the pixels that the views' source views confirm or refute.

    Returns:
        Pixels confirmed by at least `confirmations` source views, and pixels refuted: unconfirmed
        ones whose point would occlude a surface that a source view found.
    """
    confirmed, refuted = [], []
    for view, chosen in enumerate(sources):
        agreements = [maps.compare(view, source) for source in chosen]
        count = torch.stack([agreement.agrees for agreement in agreements]).sum(0)
        confirmed.append(count >= confirmations)
        occludes = torch.stack([agreement.in_front for agreement in agreements]).any(0)
        refuted.append(occludes & ~confirmed[-1])
    return torch.stack(confirmed), torch.stack(refuted)


def consistency_costs(
    maps: DepthMaps, confirmed: Bool[Tensor, "v h w"], view: int, planes: Float[Tensor, " d"]
) -> Float[Tensor, "d h w"]:
    """Compute costs of a view's planes, -1 to 1, from the other views' confirmed surfaces.

    A cost is +1 where the plane's point would occlude a surface that another view confirmed, -1
    where it lies on one, and the mean over the views with a confirmed surface there (geometric
    consistency, after Xu & Tao 2019, "Multi-scale geometric consistency guided multi-view
    stereo").
    """
    cameras = maps.cameras
    total = torch.zeros(len(planes), cameras.height, cameras.width).to(planes)
    count = torch.zeros_like(total)
    for other in range(len(cameras)):
        if other == view:
            continue
        pixels, ratio = Warp.between(cameras, view, other).pixels(planes[:, None, None])
        sampled, tolerance = maps.at(other, pixels)
        known = confirmed[other].to(planes).expand(len(planes), 1, -1, -1)
        weight = sample(known, pixels, "nearest")[:, 0]
        weight = weight * inside(pixels, ratio, cameras.width, cameras.height)
        difference = planes[:, None, None] / ratio.clamp_min(1e-6) - sampled
        occludes, lies_on = difference > 2 * tolerance, difference.abs() <= tolerance
        total += weight * (occludes.to(planes) - lies_on.to(planes))
        count += weight
    return total / count.clamp_min(1)


def floaters(maps: DepthMaps, confirmed: Bool[Tensor, "v h w"]) -> Bool[Tensor, "v h w"]:
    """Find unconfirmed pixels whose points float in space that two other views see through.

    A view sees through a point if it found a surface behind it, and either that surface is
    confirmed or its image has a different colour there (space carving, Kutulakos & Seitz 2000). One
    view is not enough: its own depth may be wrong, and a hole costs more than a misplaced point.
    """
    count = torch.zeros_like(confirmed, dtype=torch.int32)
    for view in range(len(confirmed)):
        for other in range(len(confirmed)):
            if other == view:
                continue
            agreement = maps.compare(view, other)
            known = confirmed[other].to(maps.disparity)[None, None]
            surface = sample(known, agreement.pixels[None], "nearest")[0, 0] > 0.5
            count[view] += agreement.in_front & (surface | ~agreement.same_color)
    return (count >= MIN_VIEWS_SEEING_THROUGH) & ~confirmed
