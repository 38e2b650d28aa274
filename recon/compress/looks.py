"""From where a scene is looked at, to see what matters and what a smaller one loses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.compress.places import around, between
from recon.types import Views
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
    kind: Int[Tensor, "j"]
    """Of each camera that judges: the worst kind counts."""
    error: float
    """Mean squared error of the scene itself, against photos or as assumed."""

    @staticmethod
    def of(scene: Gaussians, *kinds: Cameras, photos: Views | None = None) -> "Looks":
        """Learn from the cameras, from a third of the way to their neighbours, and around the
        cameras of photos: what is hidden from photos and from between them may be seen from beside.
        Judge half-way between neighbours, where nobody learned, and at the cameras."""
        error = 10 ** (-BEST_DB / 10)
        cameras = Cameras.cat(kinds)
        shown = _render(scene, cameras)
        more = [between(scene, each, LEARNED_PART) for each in kinds]
        if photos is not None:
            wrong = (shown.clamp(0, 1) - photos.images).square() * photos.valid
            error = max(float(wrong.sum() / (3 * photos.valid.sum())), error)
            more.append(around(scene, cameras, LEARNED_PART))
        learned, pictures = _with_more(scene, cameras, shown, more)
        halves = [between(scene, each, JUDGED_PART) for each in kinds]
        judged, truth = _with_more(scene, cameras, shown, halves)
        ones = torch.ones_like(pictures[:, :1])
        names = tuple(str(number) for number in range(len(learned)))
        lessons = Views(pictures, ones, ones, learned, names)
        return Looks(lessons, judged, truth.clamp(0, 1), _numbers(kinds, halves), error)

    def loss_db(self, smaller: Gaussians) -> float:
        """How much lower the PSNR against the truth will be: what was changed adds to the scene's
        own error as if they had nothing to do with each other."""
        return 10 * math.log10(1 + self.change(smaller) / self.error)

    def change(self, smaller: Gaussians) -> float:
        """Mean squared difference of its pictures from the truth, as a screen shows them."""
        changed = torch.zeros(len(self.judged), dtype=torch.float64)
        for view in range(len(self.judged)):
            shown = rasterize(smaller, self.judged[[view]], settings=SETTINGS).rgb[0].clamp(0, 1)
            changed[view] = (shown - self.truth[view]).square().mean()
        return max(float(changed[self.kind == kind].mean()) for kind in self.kind.unique())


def _numbers(*parts: Sequence[Cameras | None]) -> Int[Tensor, "j"]:
    """Of the kind that each camera is of, in parts that each have all kinds in order."""
    counts = [
        (kind, len(found)) for part in parts for kind, found in enumerate(part) if found is not None
    ]
    return torch.tensor([kind for kind, count in counts for _ in range(count)])


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
    return Cameras.cat([cameras, *found]), torch.cat([shown, *pictures])
