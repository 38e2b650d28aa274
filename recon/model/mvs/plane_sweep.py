"""The model `plane-sweep`: classical multi-view stereo without learned parts.

A ZNCC plane sweep (Collins 1996, "A space-sweep approach to true multi-image matching") with
semi-global aggregation, consistency checks between the views, and edge-aware interpolation that
leaves no pixel without depth.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from recon.errors import ConfigError
from recon.model.mvs.consistency import DepthMaps, check_consistency, consistency_costs, floaters
from recon.model.mvs.correlation import box_mean
from recon.model.mvs.cost_volume import cost_volume
from recon.model.mvs.depth_range import DepthRange, estimate_depth_range
from recon.model.mvs.fill import fill_disparity
from recon.model.mvs.pixel_gaussians import PixelGaussianConfig, pixel_gaussians
from recon.model.mvs.sgm import aggregate, best_plane
from recon.model.mvs.source_views import select_sources
from recon.model.mvs.warp import Warp
from recon.types import Prediction, Progress, Views


@dataclass(frozen=True)
class PlaneSweepConfig:
    """Parameters of the plane sweep, chosen by experiment (docs/experiments/plane-sweep.md)."""

    sources: int = 4
    """Maximum number of source views that each view is matched with."""
    sweep_scale: float = 0.5
    """Size of the matched images relative to the views."""
    min_planes: int = 48
    """Minimum number of depth planes."""
    max_planes: int = 160
    """Maximum number of depth planes; in between, there is one per pixel of parallax."""
    radii: tuple[int, ...] = (1, 2, 4)
    """Half window sizes of the correlation (px of the matched images)."""
    small_step: float = 0.03
    """Cost of a change by one plane between neighbours."""
    large_step: float = 0.3
    """Cost of a depth discontinuity between neighbours of similar colour."""
    rounds: int = 2
    """Number of rounds; from the second on, costs include the consistency with other views."""
    confirmations: int = 1
    """Number of source views that must confirm a depth."""
    consistency: float = 0.2
    """Cost of occluding, and reward of meeting, a surface that other views confirmed."""
    unconfirmed: float = 0.01
    """Weight of depths that no other view confirms; confirmed ones have 1."""
    smoothness: float = 0.3
    """Weight of the interpolation's differences between neighbours of similar colour."""
    gaussians: PixelGaussianConfig = field(default_factory=PixelGaussianConfig)


@dataclass(frozen=True)
class Search:
    """Depth planes and source views of every view."""

    views: Views
    sources: list[list[int]]
    planes: Float[Tensor, "v d"]
    """Disparities (1 / world units), uniform from far to near."""

    @property
    def tolerance(self) -> Float[Tensor, "v 1 1"]:
        """Disparities within one and a half planes count as equal."""
        return 1.5 * (self.planes[:, 1] - self.planes[:, 0])[:, None, None]


@dataclass(frozen=True)
class Matches:
    """The depth at which images match best, and where other views confirm or refute it."""

    search: Search
    maps: DepthMaps
    confirmed: Bool[Tensor, "v h w"]
    refuted: Bool[Tensor, "v h w"]


@dataclass(frozen=True)
class PlaneSweep:
    """Classical multi-view stereo on at least two views."""

    config: PlaneSweepConfig = field(default_factory=PlaneSweepConfig)

    @torch.no_grad()
    def __call__(self, views: Views, progress: Progress) -> Prediction:
        """Estimate depth at a reduced size, then create one Gaussian per pixel of the views.

        Raises:
            ConfigError: There is only one view.
        """
        if len(views) < 2:
            raise ConfigError(
                "the model plane-sweep matches photos: expected at least 2, found 1; "
                "use the model cost-volume, which also works with one",
                "model",
            )
        found = self.match(views, progress=progress)
        confirmed, maps = found.confirmed, self._filled(found)
        small_keep = ~floaters(maps, confirmed)
        progress(0.9)
        disparity = _upsampled(maps.disparity, views)
        keep = _upsampled(small_keep.float(), views) > 0.5
        gaussians, source_view = pixel_gaussians(views, 1 / disparity, keep, self.config.gaussians)
        progress(1.0)
        return Prediction(
            gaussians, source_view, 1 / disparity, _upsampled(confirmed.float(), views)
        )

    @torch.no_grad()
    def match(
        self,
        views: Views,
        depth_range: DepthRange | None = None,
        progress: Progress = lambda done: None,
    ) -> Matches:
        """Match views at a reduced size, without filling what no other view confirms.

        Args:
            views: At least two views.
            depth_range: Depths to search; estimated if the capture does not state them.
            progress: Called with the completed fraction of `__call__`.
        """
        views = views.resized(self.config.sweep_scale)
        search = self._search(views, depth_range or estimate_depth_range(views))
        progress(0.1)
        return self._match(search, progress)

    def _search(self, views: Views, depth_range: DepthRange) -> Search:
        sources = select_sources(views.cameras, depth_range.median, self.config.sources)
        low, high = 1 / depth_range.far, 1 / depth_range.near
        count = _parallax_px(views, sources, low, high)
        count = min(max(math.ceil(count), self.config.min_planes), self.config.max_planes)
        fraction = torch.linspace(0, 1, count).to(low)
        return Search(views, sources, low[:, None] + (high - low)[:, None] * fraction)

    def _match(self, search: Search, progress: Progress) -> Matches:
        """Estimate depth maps from photometric, then also geometric costs."""
        views, count = search.views, len(search.views)
        photometric = []
        for v in range(count):
            args = (views.images, views.cameras, v, search.sources[v], search.planes[v])
            photometric.append(cost_volume(*args, self.config.radii))
            progress(0.1 + 0.4 * (v + 1) / count)
        found = self._checked(search, photometric)
        for round_index in range(1, self.config.rounds):
            progress(0.5 + 0.35 * round_index / self.config.rounds)
            found = self._checked(search, self._with_consistency(photometric, found))
        return found

    def _checked(self, search: Search, volumes: Iterable[Float[Tensor, "d h w"]]) -> Matches:
        """Aggregate costs into depth maps, and compare those with each other."""
        maps = self._smooth(search, volumes)
        checked = check_consistency(maps, search.sources, self.config.confirmations)
        return Matches(search, maps, *checked)

    def _with_consistency(
        self, photometric: list[Float[Tensor, "d h w"]], found: Matches
    ) -> Iterator[Float[Tensor, "d h w"]]:
        """Yield the costs of each view, plus their consistency with the other views."""
        for v, costs in enumerate(photometric):
            planes = found.search.planes[v]
            consistency = consistency_costs(found.maps, found.confirmed, v, planes)
            yield costs + self.config.consistency * consistency

    def _smooth(self, search: Search, volumes: Iterable[Float[Tensor, "d h w"]]) -> DepthMaps:
        """Aggregate costs into depth maps, one view at a time, since a volume is large."""
        views, config = search.views, self.config
        disparity = []
        for v, costs in enumerate(volumes):
            guide, planes = views.images[v], search.planes[v]
            smooth = aggregate(costs, guide, config.small_step, config.large_step)
            disparity.append(planes[0] + best_plane(smooth) * (planes[1] - planes[0]))
        colors = box_mean(views.images, 1)
        return DepthMaps(views.cameras, torch.stack(disparity), search.tolerance, colors)

    def _filled(self, found: Matches) -> DepthMaps:
        """Interpolate unconfirmed pixels from their confirmed neighbours."""
        search, maps = found.search, found.maps
        low, high = search.planes[:, :1, None], search.planes[:, -1:, None]
        trust = torch.where(found.confirmed, 1.0, self.config.unconfirmed)
        trust[found.refuted] = 0
        # Scaled to 1, so that the solver behaves the same in any unit of length.
        filled = high * fill_disparity(
            maps.disparity / high, trust, search.views.images, self.config.smoothness
        )
        return replace(maps, disparity=torch.clamp(filled, low, high))


def _upsampled(maps: Float[Tensor, "v h w"], views: Views) -> Float[Tensor, "v hf wf"]:
    return interpolate(maps[:, None], views.images.shape[-2:], mode="bilinear")[:, 0]


def _parallax_px(
    views: Views, sources: list[list[int]], low: Float[Tensor, " v"], high: Float[Tensor, " v"]
) -> float:
    """Compute the largest motion of the central pixel between the far and the near plane."""
    longest = 0.0
    row, column = views.images.shape[-2] // 2, views.images.shape[-1] // 2
    for v, chosen in enumerate(sources):
        ends = torch.stack([low[v], high[v]]).reshape(2, 1, 1)
        for s in chosen:
            pixels, ratio = Warp.between(views.cameras, v, s).pixels(ends)
            if (ratio[:, row, column] > 0).all():
                longest = max(longest, float((pixels[1] - pixels[0])[row, column].norm()))
    return longest
