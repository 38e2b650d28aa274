"""One sweep: planes in, where the surface is believed to be out."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.model.precision import full_precision
from recon.model.sweep.matching import PHOTOMETRIC, Level
from recon.model.sweep.regulariser import Regulariser


@dataclass(frozen=True)
class Planes:
    """Where to look: fractions of the way from far (0) to near (1), even in disparity."""

    fraction: Float[Tensor, "n d #h #w"]
    low: Float[Tensor, "n"]
    """Disparity at fraction 0 (1 / normalised unit)."""
    high: Float[Tensor, "n"]

    @property
    def disparity(self) -> Float[Tensor, "n d #h #w"]:
        """1 / z."""
        low, high = (t[:, None, None, None] for t in (self.low, self.high))
        return low + self.fraction * (high - low)


@dataclass(frozen=True)
class Belief:
    """Mean and spread of what the planes' scores say."""

    fraction: Float[Tensor, "n h w"]
    spread: Float[Tensor, "n h w"]
    """Standard deviation, as a fraction."""
    confidence: Float[Tensor, "n h w"]
    """Probability of the likeliest plane and its two neighbours."""

    def cropped(self, height: int, width: int) -> "Belief":
        """Its upper left corner."""
        parts = (self.fraction, self.spread, self.confidence)
        return Belief(*(part[:, :height, :width] for part in parts))


class Stage(nn.Module):
    """Learned features for matching, and the network that weighs the evidence."""

    def __init__(self, context: int, matched: int, groups: int, volume: int) -> None:
        super().__init__()
        self.groups = groups
        self.matched = nn.Conv2d(context, matched, 1)
        # One channel more: the plane's own fraction.
        self.regulariser = Regulariser(groups + PHOTOMETRIC + 1, context, volume)

    def forward(
        self,
        level: Level,
        planes: Planes,
        prior: Float[Tensor, "n d h w"] | None,
        recompute: bool,
    ) -> Belief:
        """`level.features` are the context; `prior` is added to the scores.

        Without gradients one view goes after the other: a volume is large.
        """
        matched = Level(level.images, self.matched(level.features), level.cameras, level.sources)
        everyone = torch.arange(len(level.images), device=level.images.device)
        if not torch.is_grad_enabled():
            rows = [self._scores(level, matched, planes, one) for one in everyone.split(1)]
            scores = torch.cat(rows)
        elif recompute:
            scores = checkpoint(self._scores, level, matched, planes, everyone, use_reentrant=False)
        else:
            scores = self._scores(level, matched, planes, everyone)
        return believe(scores if prior is None else scores + prior, planes)

    def _scores(
        self, level: Level, matched: Level, planes: Planes, which: Int[Tensor, "m"]
    ) -> Float[Tensor, "m d h w"]:
        evidence = matched.evidence(which, planes.disparity[which], self.groups)
        fraction = planes.fraction[which].expand(len(which), *evidence.shape[2:])[:, None]
        return self.regulariser(torch.cat([evidence, fraction], 1), level.features[which])


@full_precision
def believe(scores: Float[Tensor, "n d h w"], planes: Planes) -> Belief:
    """Softmax over planes, and its moments (soft argmin, Kendall et al. 2017, eq. 1)."""
    probability = scores.softmax(1)
    mean = (probability * planes.fraction).sum(1)
    away = (planes.fraction - mean[:, None]).square()
    spread = ((probability * away).sum(1) + 1e-10).sqrt()
    padded = torch.nn.functional.pad(probability, (0, 0, 0, 0, 1, 1))
    three = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return Belief(mean, spread, three.amax(1))
