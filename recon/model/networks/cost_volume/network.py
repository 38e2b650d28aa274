"""The parts of `cost-volume` put together."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from recon.model.batch import NetworkOutput, ViewBatch
from recon.model.heads import activate
from recon.model.layers.precision import full_precision
from recon.model.layers.pyramid import MULTIPLE_PX, Pyramid
from recon.model.mvs.source_views import choose_sources
from recon.model.networks.cost_volume.config import CostVolumeConfig
from recon.model.networks.cost_volume.decoder import Decoder
from recon.model.networks.cost_volume.depth_distribution import Belief, Planes
from recon.model.networks.cost_volume.matching import Level
from recon.model.networks.cost_volume.multi_view_consistency import Poll, share_of
from recon.model.networks.cost_volume.stage import Stage
from render import Cameras

COARSE_PX, FINE_PX = 4, 2
# The second sweep looks this many spreads around the first, and at least this many of the
# first's planes.
REACH_SPREADS, REACH_PLANES = 2.0, 1.5
# Width of the context's own guess of the depth, as a fraction: from this, free upwards.
MIN_PRIOR = 0.05


class CostVolumeNetwork(nn.Module):
    """Takes a normalised batch of any number of views and any picture size."""

    def __init__(self, config: CostVolumeConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, _ = config.pyramid.channels
        self.context = Pyramid(config.pyramid, config.recompute)
        self.prior = nn.Conv2d(quarter, 2, 1)
        matched = 4 * config.groups
        self.coarse = Stage(quarter, matched, config.groups, config.volume, votes=False)
        self.fine = Stage(half, matched, config.groups, config.volume, votes=True)
        self.decoder = Decoder(half, 2 * half, config.head.channels)

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Gaussians in the frame of the batch's cameras."""
        (scenes, views), (height, width) = batch.images.shape[:2], batch.images.shape[-2:]
        half, beliefs, votes = self._sweep(batch)
        raw = self.decoder(half, *beliefs[-2:], votes)[:, :height, :width]
        share = interpolate(share_of(votes)[:, None], scale_factor=FINE_PX)[:, 0, :height, :width]
        raw, share = (t.unflatten(0, (scenes, views)) for t in (raw, share))
        output = activate(raw, batch, self.config.head, share)
        return _with_beliefs(output, beliefs, batch)

    def _sweep(
        self, batch: ViewBatch
    ) -> tuple[Float[Tensor, "n c h2 w2"], list[Belief], Float[Tensor, "n v h2 w2"]]:
        """Features at 1/2 of the padded pictures, what was believed from coarse to fine, and what
        the other views say of the last."""
        views, size = batch.images.shape[1], batch.images.shape[-2:]
        batch = batch.padded(MULTIPLE_PX)
        images, cameras = batch.images.flatten(0, 1), batch.cameras.flatten()
        low, high = (1 / t.flatten() for t in (batch.far, batch.near))
        half, quarter = self.context(images, cameras, views)
        sources = choose_sources(batch.cameras, batch.middle_depth, self.config.sources)
        if max(size) > self.config.direct_px:
            _, beliefs, _ = self._sweep(batch.halved())
            # What came of half the size is as large as a quarter of this one.
            beliefs = [*beliefs[:-1], beliefs[-1].cropped(*quarter.shape[-2:])]
        else:
            level = _level(images, quarter, cameras, sources, COARSE_PX)
            beliefs = [self._first(level, low, high)]
        level = _level(images, half, cameras, sources, FINE_PX)
        second = self._second(level, beliefs[-1], low, high)
        everyone = torch.arange(len(images), device=images.device)
        found = Planes(second.fraction[:, None], low, high).disparity
        poll = Poll(second, low, high, level.cameras, sources)
        return half, [*beliefs, second], poll.votes(everyone, found)[:, :, 0]

    def _first(self, level: Level, low: Float[Tensor, "n"], high: Float[Tensor, "n"]) -> Belief:
        """Planes from far to near, with the context's own guess."""
        count, config = len(level.images), self.config
        fraction = torch.linspace(0, 1, config.planes).to(low)[None, :, None, None]
        planes = Planes(fraction.expand(count, -1, 1, 1), low, high)
        guess, width = self.prior(level.features).float().split(1, 1)
        width = MIN_PRIOR + torch.nn.functional.softplus(width)
        prior = -0.5 * ((fraction - torch.sigmoid(guess)) / width).square()
        return self.coarse(level, planes, prior, None, config.recompute)

    def _second(
        self, level: Level, first: Belief, low: Float[Tensor, "n"], high: Float[Tensor, "n"]
    ) -> Belief:
        """Planes around the first belief, as far as it is unsure (Cheng et al. 2020, eq. 5)."""
        config = self.config
        before = first.enlarged(2)
        center, spread = before.fraction[:, None], before.spread.detach()[:, None]
        reach = (REACH_SPREADS * spread).clamp_min(REACH_PLANES / (config.planes - 1))
        offsets = torch.linspace(-1, 1, config.fine_planes).to(low)[None, :, None, None]
        fraction = (center + reach * offsets).clamp(0, 1)
        poll = Poll(before, low, high, level.cameras, level.sources)
        return self.fine(level, Planes(fraction, low, high), None, poll, config.recompute)


def _level(
    images: Float[Tensor, "n 3 h w"],
    features: Float[Tensor, "n c hs ws"],
    cameras: Cameras,
    sources: Int[Tensor, "n s"],
    factor: int,
) -> Level:
    small = torch.nn.functional.avg_pool2d(images, factor)
    height, width = small.shape[-2:]
    return Level(small, features, cameras.resized(width, height), sources)


@full_precision
def _with_beliefs(output: NetworkOutput, beliefs: list[Belief], batch: ViewBatch) -> NetworkOutput:
    """The sweeps' own depths and confidence at the size of the pictures."""
    (scenes, views), (height, width) = output.depth.shape[:2], output.depth.shape[2:]

    def enlarged(values: Float[Tensor, "n h w"], factor: int) -> Float[Tensor, "b v hf wf"]:
        large = interpolate(values[:, None], scale_factor=factor, mode="bilinear")
        return large[:, 0, :height, :width].unflatten(0, (scenes, views))

    far, near = (1 / t[..., None, None] for t in (batch.far, batch.near))
    factors = [FINE_PX * 2**steps for steps in reversed(range(len(beliefs)))]
    depths = tuple(
        1 / (far + enlarged(belief.fraction, factor) * (near - far))
        for belief, factor in zip(beliefs, factors, strict=True)
    )
    confidence = enlarged(beliefs[-1].confidence, FINE_PX).clamp(0, 1)
    return replace(output, confidence=confidence, earlier_depths=depths)
