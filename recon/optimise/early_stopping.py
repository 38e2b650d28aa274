"""How many steps help a photo that was not optimised for?"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from recon.optimise.config import RefineConfig
from recon.optimise.loop import take_steps
from recon.optimise.parameters import SETTINGS, Parameters
from recon.types import Progress, Views
from render import Cameras, Gaussians, rasterize

# With fewer photos the others say too little about the one that is held out.
MIN_PHOTOS = 4
# Pixels that the others' Gaussians cover.
MIN_ALPHA = 0.5
# Steps after which the photo is looked at, beside the first and the last.
LOOKS = tuple(8 * 2**i for i in range(10))
# Steps fall: when the photo looked best of all after this part of them, it will in the end.
EARLY = 1 / 3
# Errors this much larger than the least (0.3 dB) mean that there were too many steps.
MEANINGFUL = 1.072
Thin = Callable[[Gaussians, Cameras], Gaussians]


def leave(gaussians: Gaussians, cameras: Cameras) -> Gaussians:
    """The scene as it is."""
    return gaussians


@dataclass(frozen=True)
class Holdout:
    """One photo, and the scene of the others."""

    gaussians: Gaussians
    """What came from the others."""
    views: Views
    """The others."""
    target: Views
    """The one."""
    covered: Bool[Tensor, "1 h w"]
    """Pixels of it that the others show, and that are to be shown."""

    @staticmethod
    def of(
        gaussians: Gaussians, source_view: Int[Tensor, "n"], views: Views, thin: Thin = leave
    ) -> "Holdout":
        """The photo nearest the middle of all: the others show most of it."""
        centers = views.cameras.centers
        chosen = int((centers - centers.mean(0)).norm(dim=-1).argmin())
        others = [v for v in range(len(views)) if v != chosen]
        seen, target = views.select(others), views.select(slice(chosen, chosen + 1))
        rest = thin(gaussians.select(source_view != chosen), seen.cameras)
        alpha = rasterize(rest, target.cameras, settings=SETTINGS).alpha
        covered = (alpha[0] > MIN_ALPHA) & (target.valid[0] > 0)
        return Holdout(rest, seen, target, covered)

    def error(self, gaussians: Gaussians) -> float:
        """Mean squared error over what is covered, after the best exposure."""
        shown = rasterize(gaussians, self.target.cameras, settings=SETTINGS).rgb[0]
        inside = self.covered[0]
        found, truth = shown[:, inside], self.target.images[0][:, inside]
        gain = (found * truth).sum(1) / found.square().sum(1).clamp_min(1e-9)
        return float((gain[:, None] * found - truth).square().mean())


def useful_steps(
    gaussians: Gaussians,
    source_view: Int[Tensor, "n"],
    views: Views,
    config: RefineConfig,
    progress: Progress = lambda done: None,
    thin: Thin = leave,
) -> int | None:
    """Steps after which a photo that is left out looks best; None when more never hurt it, or
    when there are too few photos to tell.

    `source_view` says which view each Gaussian came from: those of the photo that is left out would
    show it as it is. `thin` is what is done to the scene before it is optimised.
    """
    if len(views) < MIN_PHOTOS or config.steps == 0:
        return None
    holdout = Holdout.of(gaussians, source_view, views, thin)
    if not bool(holdout.covered.any()):
        return None
    scene = Parameters(holdout.gaussians, holdout.views.cameras, config)
    looks, taken = [(0, holdout.error(holdout.gaussians))], 0
    for taken, _ in take_steps(scene, holdout.views, config, progress):
        if taken in LOOKS and taken < config.steps:
            looks.append((taken, holdout.error(scene.gaussians().detach())))
            best = min(error for _, error in looks)
            if config.seconds is None and taken >= EARLY * config.steps and looks[-1][1] == best:
                return None
    looks.append((taken, holdout.error(scene.gaussians().detach())))
    steps, error = min(looks, key=lambda look: look[1])
    return None if looks[-1][1] <= MEANINGFUL * error else steps
