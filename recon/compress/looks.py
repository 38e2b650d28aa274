"""From where a scene is looked at, to see what matters and what a smaller one loses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.types import Views
from recon.compress.places import around, between
from render import Cameras, Gaussians, RasterizeSettings, rasterize

SETTINGS = RasterizeSettings(render_mode="RGB")
# From where no photo was taken a scene is not better than this (PSNR, dB), however well it agrees
# with the photos it was made from.
BEST_DB = 30.0
# Of the way to a camera's neighbour.
LEARNED_PART, JUDGED_PART = 1 / 3, 1 / 2


@dataclass(frozen=True)
class Looks:
    """Pictures of the scene as it was: some to learn from, others to judge by."""

    lessons: Views
    judged: Cameras
    truth: Float[Tensor, "j 3 h w"]
    """What the scene looks like from the cameras that judge."""
    error: float
    """Mean squared error of the scene itself, against photos or as assumed."""

    @staticmethod
    def of(scene: Gaussians, cameras: Cameras, photos: Views | None) -> "Looks":
        """Learn from the cameras, from a third of the way to their neighbours, and around the
        cameras of photos: what is hidden from photos and from between them may be seen from beside.
        Judge half-way between neighbours, where nobody learned, and at the cameras."""
        error = 10 ** (-BEST_DB / 10)
        shown = _render(scene, cameras)
        more = [between(scene, cameras, LEARNED_PART)]
        if photos is not None:
            wrong = (shown.clamp(0, 1) - photos.images).square() * photos.valid
            error = max(float(wrong.sum() / (3 * photos.valid.sum())), error)
            more.append(around(scene, cameras, LEARNED_PART))
        learned, pictures = _with_more(scene, cameras, shown, more)
        judged, truth = _with_more(scene, cameras, shown, [between(scene, cameras, JUDGED_PART)])
        ones = torch.ones_like(pictures[:, :1])
        names = tuple(str(number) for number in range(len(learned)))
        lessons = Views(pictures, ones, ones, learned, names)
        return Looks(lessons, judged, truth.clamp(0, 1), error)

    def loss_db(self, smaller: Gaussians) -> float:
        """How much lower the PSNR against the truth will be: what was changed adds to the scene's
        own error as if they had nothing to do with each other."""
        return 10 * math.log10(1 + self.change(smaller) / self.error)

    def change(self, smaller: Gaussians) -> float:
        """Mean squared difference of its pictures from the truth, as a screen shows them."""
        changed = 0.0
        for view in range(len(self.judged)):
            shown = rasterize(smaller, self.judged[[view]], settings=SETTINGS).rgb[0].clamp(0, 1)
            changed += float((shown - self.truth[view]).square().mean()) / len(self.judged)
        return changed


def _render(scene: Gaussians, cameras: Cameras) -> Float[Tensor, "v 3 h w"]:
    views = [rasterize(scene, cameras[[v]], settings=SETTINGS).rgb[0] for v in range(len(cameras))]
    return torch.stack(views)


def _with_more(
    scene: Gaussians,
    cameras: Cameras,
    shown: Float[Tensor, "v 3 h w"],
    more: Sequence[Cameras | None],
) -> tuple[Cameras, Float[Tensor, "m 3 h w"]]:
    """The cameras and what they show, and more of both where there are."""
    found = [part for part in more if part is not None]
    pictures = [_render(scene, part) for part in found]
    return Cameras.concatenate([cameras, *found]), torch.cat([shown, *pictures])
