"""What the other views say of each pixel at each depth."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from recon.model.layers.group_product import GroupProduct
from recon.model.layers.precision import full_precision
from recon.model.mvs.warp import sample_planes, source_pixels
from recon.model.mvs.zncc import zncc
from render import Cameras

# Half sizes of the correlated windows (px).
RADII = (1, 3)
# Channels beside the learned correlation: mean and best ZNCC per radius, colour difference,
# share of the sources that see the point.
PHOTOMETRIC = 2 * len(RADII) + 2


@dataclass(frozen=True)
class Level:
    """All views of a batch at one size, in one row, and whom each is matched with."""

    images: Float[Tensor, "n 3 h w"]
    features: Float[Tensor, "n c h w"]
    cameras: Cameras
    sources: Int[Tensor, "n s"]

    def evidence(
        self, which: Int[Tensor, "m"], disparity: Float[Tensor, "m d #h #w"], groups: int
    ) -> Float[Tensor, "m e d h w"]:
        """For the views `which`, at each of their disparities (1 / z): the groups' correlation
        of learned features (Guo et al. 2019, eq. 4) and the photometric channels.

        Means are over the sources that see the point, so any number of them will do; the best
        of them stands beside, because a surface may be hidden from some.
        """
        h, w = self.images.shape[-2:]
        shape = (len(which), disparity.shape[1], h, w)
        total = self.features.new_zeros(shape[0], groups + len(RADII) + 1, *shape[1:])
        best = total.new_full((shape[0], len(RADII), *shape[1:]), -1.0)
        count = total.new_zeros(shape[0], 1, *shape[1:])
        for source in self.sources[which].T:
            positions = disparity.detach().expand(shape)
            pixels, visible = source_pixels(self.cameras, which, source, positions)
            seen = visible[:, None].to(total)
            learned = self._learned(which, source, pixels, groups)
            correlation, difference = self._photometric(which, source, pixels)
            total = total + seen * torch.cat([learned, correlation, difference], 1)
            best = torch.maximum(best, torch.where(seen > 0, correlation, -1.0))
            count = count + seen
        share = count / max(1, self.sources.shape[1])
        best = torch.where(count > 0, best, 0.0)
        return torch.cat([total / count.clamp_min(1), best, share], 1)

    @full_precision
    def _learned(
        self,
        which: Int[Tensor, "m"],
        source: Int[Tensor, "m"],
        pixels: Float[Tensor, "m d h w 2"],
        groups: int,
    ) -> Float[Tensor, "m g d h w"]:
        """Cosine of each group of channels."""
        grouped = self.features.float().unflatten(1, (groups, -1))
        unit = normalize(grouped, dim=2).flatten(1, 2)
        warped = sample_planes(unit[source], pixels)
        return GroupProduct.apply(*(t.unflatten(1, (groups, -1)) for t in (unit[which], warped)))

    @torch.no_grad()
    @full_precision
    def _photometric(
        self, which: Int[Tensor, "m"], source: Int[Tensor, "m"], pixels: Float[Tensor, "m d h w 2"]
    ) -> tuple[Float[Tensor, "m r d h w"], Float[Tensor, "m 1 d h w"]]:
        """ZNCC per radius, and the mean absolute difference of colours."""
        warped = sample_planes(self.images[source], pixels)
        here = self.images[which]
        difference = (warped - here[:, :, None]).abs().mean(1, keepdim=True)
        grey, there = here.mean(1)[:, None, None], warped.mean(1)[:, :, None]
        scores = [zncc(grey, there, radius)[:, :, 0] for radius in RADII]
        return torch.stack(scores, 1), difference
