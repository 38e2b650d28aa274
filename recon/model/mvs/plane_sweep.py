"""The classical model: multi-view ZNCC plane sweep, no learned part.

Collins 1996, "A space-sweep approach to true multi-image matching", with semi-global
aggregation, checks between the views and a fill that leaves no pixel without depth.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from recon.errors import ConfigError
from recon.model.mvs.consistency import DepthMaps, consistency_costs, floaters, judged
from recon.model.mvs.cost_volume import cost_volume
from recon.model.mvs.depth_range import depth_range_of
from recon.model.mvs.fill import fill_disparity
from recon.model.mvs.pixel_gaussians import PixelGaussianConfig, pixel_gaussians
from recon.model.mvs.sgm import aggregate, best_plane
from recon.model.mvs.source_views import select_sources
from recon.model.mvs.warp import Warp
from recon.model.mvs.zncc import box_mean
from recon.types import Prediction, Progress, Views


@dataclass(frozen=True)
class PlaneSweepConfig:
    """Dials of the classical sweep; the values were measured, see docs/experiments.md."""

    sources: int = 4
    """Other views that each view is matched with, at most."""
    sweep_scale: float = 0.5
    """Size of the pictures that are swept, relative to the views."""
    min_planes: int = 48
    """Fewest depth planes."""
    max_planes: int = 160
    """Most depth planes; between the two, one per pixel of parallax."""
    radii: tuple[int, ...] = (1, 2, 4)
    """Half window sizes of the correlation (px of the swept pictures)."""
    small_step: float = 0.03
    """Cost of a change of one plane between neighbours."""
    large_step: float = 0.3
    """Cost of a depth jump between neighbours of like colour."""
    rounds: int = 2
    """Sweeps; each later one is told what the other views confirmed in the one before."""
    consistency: float = 0.2
    """Cost of hiding, and gain of meeting, what the other views confirmed."""
    unconfirmed: float = 0.01
    """Trust in depths that no other view confirms; confirmed ones have 1."""
    smoothness: float = 0.3
    """Pull of the fill towards neighbours of like colour."""
    gaussians: PixelGaussianConfig = field(default_factory=PixelGaussianConfig)


@dataclass(frozen=True)
class _Sweep:
    """Planes and sources of every view."""

    views: Views
    sources: list[list[int]]
    planes: Float[Tensor, "v d"]
    """Disparities (1 / world units), evenly spaced from far to near."""

    @property
    def tolerance(self) -> Float[Tensor, "v 1 1"]:
        """Disparities within one and a half planes count as the same."""
        return 1.5 * (self.planes[:, 1] - self.planes[:, 0])[:, None, None]


@dataclass(frozen=True)
class PlaneSweep:
    """The model `plane-sweep`."""

    config: PlaneSweepConfig = field(default_factory=PlaneSweepConfig)

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """Depth of every pixel at a reduced size, then one Gaussian per full pixel."""
        if len(views) < 2:
            raise ConfigError(
                "the model plane-sweep matches photos: expected at least 2, found 1; "
                "use the model cost-volume, which also takes one",
                "model",
            )
        sweep = self._prepare(views.resized(self.config.sweep_scale))
        progress(0.1)
        maps, confirmed = self._match(sweep, progress)
        maps = self._filled(sweep, maps, confirmed)
        small_keep = ~floaters(maps, confirmed)
        progress(0.9)
        disparity = _enlarged(maps.disparity, views)
        keep = _enlarged(small_keep.float(), views) > 0.5
        gaussians, source_view = pixel_gaussians(views, 1 / disparity, keep, self.config.gaussians)
        progress(1.0)
        return Prediction(
            gaussians, source_view, 1 / disparity, _enlarged(confirmed.float(), views)
        )

    def _prepare(self, views: Views) -> _Sweep:
        depth_range = depth_range_of(views)
        sources = select_sources(views.cameras, depth_range.median, self.config.sources)
        low, high = 1 / depth_range.far, 1 / depth_range.near
        count = _parallax_px(views, sources, low, high)
        count = min(max(math.ceil(count), self.config.min_planes), self.config.max_planes)
        fraction = torch.linspace(0, 1, count).to(low)
        return _Sweep(views, sources, low[:, None] + (high - low)[:, None] * fraction)

    def _match(self, sweep: _Sweep, progress: Progress) -> tuple[DepthMaps, Bool[Tensor, "v h w"]]:
        """Depth maps by photometric, then also by geometric costs; what is confirmed."""
        views, count = sweep.views, len(sweep.views)
        photometric = []
        for v in range(count):
            args = (views.images, views.cameras, v, sweep.sources[v], sweep.planes[v])
            photometric.append(cost_volume(*args, self.config.radii))
            progress(0.1 + 0.4 * (v + 1) / count)
        maps = self._smooth(sweep, photometric)
        confirmed, _ = judged(maps, sweep.sources)
        for sweep_round in range(1, self.config.rounds):
            progress(0.5 + 0.35 * sweep_round / self.config.rounds)
            maps = self._smooth(sweep, self._with_votes(sweep, photometric, maps, confirmed))
            confirmed, _ = judged(maps, sweep.sources)
        return maps, confirmed

    def _with_votes(
        self,
        sweep: _Sweep,
        photometric: list[Float[Tensor, "d h w"]],
        maps: DepthMaps,
        confirmed: Bool[Tensor, "v h w"],
    ) -> Iterator[Float[Tensor, "d h w"]]:
        """The costs of one view after the other, with what the other views say of them."""
        for v, costs in enumerate(photometric):
            votes = consistency_costs(maps, confirmed, v, sweep.planes[v])
            yield costs + self.config.consistency * votes

    def _smooth(self, sweep: _Sweep, volumes: Iterable[Float[Tensor, "d h w"]]) -> DepthMaps:
        """Semi-global depth maps, one view at a time: a volume is large."""
        views, config = sweep.views, self.config
        disparity = []
        for v, costs in enumerate(volumes):
            guide, planes = views.images[v], sweep.planes[v]
            smooth = aggregate(costs, guide, config.small_step, config.large_step)
            disparity.append(planes[0] + best_plane(smooth) * (planes[1] - planes[0]))
        colors = box_mean(views.images, 1)
        return DepthMaps(views.cameras, torch.stack(disparity), sweep.tolerance, colors)

    def _filled(
        self, sweep: _Sweep, maps: DepthMaps, confirmed: Bool[Tensor, "v h w"]
    ) -> DepthMaps:
        """The same maps, unconfirmed pixels filled from their confirmed neighbours."""
        low, high = sweep.planes[:, :1, None], sweep.planes[:, -1:, None]
        trust = torch.where(confirmed, 1.0, self.config.unconfirmed)
        trust[judged(maps, sweep.sources)[1]] = 0
        # Scaled to 1, so that the solver works the same in any unit of length.
        filled = high * fill_disparity(
            maps.disparity / high, trust, sweep.views.images, self.config.smoothness
        )
        return replace(maps, disparity=torch.clamp(filled, low, high))


def _enlarged(maps: Float[Tensor, "v h w"], views: Views) -> Float[Tensor, "v hf wf"]:
    return interpolate(maps[:, None], views.images.shape[-2:], mode="bilinear")[:, 0]


def _parallax_px(
    views: Views, sources: list[list[int]], low: Float[Tensor, "v"], high: Float[Tensor, "v"]
) -> float:
    """How far the middle pixel moves in a source between the far and the near plane, at most."""
    longest = 0.0
    row, column = views.images.shape[-2] // 2, views.images.shape[-1] // 2
    for v, chosen in enumerate(sources):
        ends = torch.stack([low[v], high[v]]).reshape(2, 1, 1)
        for s in chosen:
            pixels, ratio = Warp.between(views.cameras, v, s).pixels(ends)
            if (ratio[:, row, column] > 0).all():
                longest = max(longest, float((pixels[1] - pixels[0])[row, column].norm()))
    return longest
