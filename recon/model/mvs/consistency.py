"""Do the depth maps of different views agree?"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.model.mvs.warp import Warp, inside, sample
from render import Cameras

# Depths differ when their disparities differ by more than the tolerance or this share.
RELATIVE_TOLERANCE = 0.01
# A point that another view should see, but whose colour there differs by more than
# this (display sRGB, any channel), is not there.
MAX_COLOR_DIFFERENCE = 0.07
MIN_VOTES = 2


@dataclass(frozen=True)
class DepthMaps:
    """Depth of every view, as disparity (1 / world units), and how sure it is."""

    cameras: Cameras
    disparity: Float[Tensor, "v h w"]
    tolerance: Float[Tensor, "v #h #w"]
    """Disparities closer than this are the same (1 / world units)."""
    colors: Float[Tensor, "v 3 h w"]
    """The views' pictures, blurred a little."""

    def at(
        self, view: int, pixels: Float[Tensor, "d h w 2"]
    ) -> tuple[Float[Tensor, "d h w"], Float[Tensor, "d h w"]]:
        """A view's disparity at these positions, and how much another one may differ from it."""
        disparity = self.disparity[view]
        pair = torch.stack([disparity, self.tolerance[view].expand_as(disparity)])
        pair = sample(pair.expand(len(pixels), -1, -1, -1), pixels, "nearest")
        there, tolerance = pair.unbind(1)
        return there, torch.maximum(tolerance, RELATIVE_TOLERANCE * there)

    def compare(self, view: int, other: int) -> "Agreement":
        """Judge a view's depths by another view's."""
        pixels, ratio = Warp.between(self.cameras, view, other).pixels(self.disparity[view])
        visible = inside(pixels, ratio, self.cameras.width, self.cameras.height)
        there, slack = (t[0] for t in self.at(other, pixels[None]))
        difference = self.disparity[view] / ratio.clamp_min(1e-6) - there
        seen = sample(self.colors[other][None], pixels[None])[0]
        alike = (seen - self.colors[view]).abs().amax(0) <= MAX_COLOR_DIFFERENCE
        return Agreement(
            pixels=pixels,
            agrees=visible & alike & (difference.abs() <= slack),
            in_front=visible & (difference > 2 * slack),
            alike=alike,
        )


@dataclass(frozen=True)
class Agreement:
    """What another view's depth map says of every pixel of a view."""

    pixels: Float[Tensor, "h w 2"]
    """Where the pixels fall in the other view (px)."""
    agrees: Bool[Tensor, "h w"]
    """Both views place the surface at the same depth and in the same colour."""
    in_front: Bool[Tensor, "h w"]
    """The point would hide what the other view found behind it."""
    alike: Bool[Tensor, "h w"]
    """The other view's picture has the same colour where the point falls."""


def judged(
    maps: DepthMaps, sources: list[list[int]]
) -> tuple[Bool[Tensor, "v h w"], Bool[Tensor, "v h w"]]:
    """Which pixels at least one of their view's sources confirms; which ones are refuted,
    because their points would hide what a source sees and none confirms them."""
    confirmed, refuted = [], []
    for view, chosen in enumerate(sources):
        verdicts = [maps.compare(view, source) for source in chosen]
        confirmed.append(torch.stack([verdict.agrees for verdict in verdicts]).any(0))
        hides = torch.stack([verdict.in_front for verdict in verdicts]).any(0)
        refuted.append(hides & ~confirmed[-1])
    return torch.stack(confirmed), torch.stack(refuted)


def consistency_costs(
    maps: DepthMaps, confirmed: Bool[Tensor, "v h w"], view: int, planes: Float[Tensor, "d"]
) -> Float[Tensor, "d h w"]:
    """What the other views' confirmed surfaces say of each plane of a view, -1 to 1.

    +1 where the plane's point would hide a surface that another view has confirmed, -1
    where it lies on one; the mean over the views that confirmed something there
    (geometric consistency, after Xu & Tao 2019, "Multi-scale geometric consistency
    guided multi-view stereo").
    """
    cameras = maps.cameras
    total = torch.zeros(len(planes), cameras.height, cameras.width).to(planes)
    count = torch.zeros_like(total)
    for other in range(len(cameras)):
        if other == view:
            continue
        pixels, ratio = Warp.between(cameras, view, other).pixels(planes[:, None, None])
        there, slack = maps.at(other, pixels)
        known = confirmed[other].to(planes).expand(len(planes), 1, -1, -1)
        sure = sample(known, pixels, "nearest")[:, 0]
        sure = sure * inside(pixels, ratio, cameras.width, cameras.height)
        difference = planes[:, None, None] / ratio.clamp_min(1e-6) - there
        hides, lies_on = difference > 2 * slack, difference.abs() <= slack
        total += sure * (hides.to(planes) - lies_on.to(planes))
        count += sure
    return total / count.clamp_min(1)


def floaters(maps: DepthMaps, confirmed: Bool[Tensor, "v h w"]) -> Bool[Tensor, "v h w"]:
    """Unconfirmed pixels whose points float in space that two other views look through.

    A view looks through a point when it found a surface behind it, and either that
    surface is confirmed or its picture shows another colour there (space carving,
    Kutulakos & Seitz 2000). One view's word is not enough: it may be the one that errs,
    and a hole costs more than a misplaced point.
    """
    votes = torch.zeros_like(confirmed, dtype=torch.int32)
    for view in range(len(confirmed)):
        for other in range(len(confirmed)):
            if other == view:
                continue
            verdict = maps.compare(view, other)
            there = confirmed[other].to(maps.disparity)[None, None]
            sure = sample(there, verdict.pixels[None], "nearest")[0, 0] > 0.5
            votes[view] += verdict.in_front & (sure | ~verdict.alike)
    return (votes >= MIN_VOTES) & ~confirmed
