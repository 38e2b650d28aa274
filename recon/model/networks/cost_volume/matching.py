"""Matching of every depth hypothesis against the source views."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from recon.model.layers.precision import full_precision
from recon.model.mvs.correlation import group_product, zncc
from recon.model.mvs.warp import sample_planes, source_pixels
from render import Cameras

# Probability of a source view's match being wrong: the least factor in the product, times the
# number of hypotheses.
OUTLIERS = 0.1
# Half sizes of the correlated windows (px).
RADII = (1, 3)
# Channels besides the group-wise correlation: mean and best ZNCC per radius, colour difference,
# fraction of the source views that see the point.
NUM_PHOTOMETRIC_CHANNELS = 2 * len(RADII) + 2


@dataclass(frozen=True)
class FeatureLevel:
    """All views of a batch at one resolution, flattened to one axis, with their source views."""

    images: Float[Tensor, "n 3 h w"]
    feature_maps: Float[Tensor, "n c h w"]
    cameras: Cameras
    sources: Int[Tensor, "n s"]

    @full_precision
    def normalised(self, groups: int) -> "FeatureLevel":
        """Scale the feature vectors of each group of channels to unit length, in float32."""
        grouped = self.feature_maps.float().unflatten(1, (groups, -1))
        return replace(self, feature_maps=normalize(grouped, dim=2).flatten(1, 2))

    def match(
        self,
        views: Int[Tensor, " m"],
        disparity: Float[Tensor, "m d #h #w"],
        groups: int,
        likelihood: nn.Module | None = None,
    ) -> Float[Tensor, "m e d h w"]:
        """Compute the matching channels of some views at each of their disparities (1 / z).

        The feature maps must be normalised.

        The channels are group-wise correlations of the feature maps (Guo et al. 2019, eq. 4),
        then the photometric ones. Each is a mean over the source views that see the point, so
        that any number of sources works; the best ZNCC is also kept, because a surface may
        be hidden from some of them.

        Args:
            views: Indices of the reference views.
            disparity: Hypotheses of those views.
            groups: Number of groups that the feature channels are split into.
            likelihood: Maps the channels of one source view [m e d h w] to a score per hypothesis.
                If given, the last channel is the logarithm of the product of the source views'
                probabilities, renormalised.
        """
        h, w = self.images.shape[-2:]
        shape = (len(views), disparity.shape[1], h, w)
        total = self.feature_maps.new_zeros(shape[0], groups + len(RADII) + 1, *shape[1:])
        best = total.new_full((shape[0], len(RADII), *shape[1:]), -1.0)
        count = joint = total.new_zeros(shape[0], 1, *shape[1:])
        for source in self.sources[views].T:
            planes = disparity.detach().expand(shape)
            pixels, visible = source_pixels(self.cameras, views, source, planes)
            seen = visible[:, None].to(total)
            learned = self._feature_correlation(views, source, pixels, groups)
            correlation, difference = self._photometric(views, source, pixels)
            channels = torch.cat([learned, correlation, difference], 1)
            total = total + seen * channels
            if likelihood is not None:
                joint = joint + _log_probability(likelihood(channels).float(), seen)
            best = torch.maximum(best, torch.where(seen > 0, correlation, -1.0))
            count = count + seen
        visible_fraction = count / max(1, self.sources.shape[1])
        best = torch.where(count > 0, best, 0.0)
        matching = [total / count.clamp_min(1), best, visible_fraction]
        if likelihood is not None:
            matching.append(joint.log_softmax(2) + math.log(joint.shape[2]))
        return torch.cat(matching, 1)

    @full_precision
    def _feature_correlation(
        self,
        views: Int[Tensor, " m"],
        source: Int[Tensor, " m"],
        pixels: Float[Tensor, "m d h w 2"],
        groups: int,
    ) -> Float[Tensor, "m g d h w"]:
        """Compute the cosine similarity of each group of channels."""
        warped = sample_planes(self.feature_maps[source], pixels)
        reference = self.feature_maps[views]
        return group_product(*(t.unflatten(1, (groups, -1)) for t in (reference, warped)))

    @torch.no_grad()
    @full_precision
    def _photometric(
        self,
        views: Int[Tensor, " m"],
        source: Int[Tensor, " m"],
        pixels: Float[Tensor, "m d h w 2"],
    ) -> tuple[Float[Tensor, "m r d h w"], Float[Tensor, "m 1 d h w"]]:
        """Compute ZNCC per radius, and the mean absolute difference of colours."""
        warped = sample_planes(self.images[source], pixels)
        reference = self.images[views]
        difference = (warped - reference[:, :, None]).abs().mean(1, keepdim=True)
        grey, warped_grey = reference.mean(1)[:, None, None], warped.mean(1)[:, :, None]
        scores = [zncc(grey, warped_grey, radius)[:, :, 0] for radius in RADII]
        return torch.stack(scores, 1), difference


@full_precision
def _log_probability(
    scores: Float[Tensor, "m 1 d h w"], seen: Float[Tensor, "m 1 d h w"]
) -> Float[Tensor, "m 1 d h w"]:
    """Compute log-probabilities of a source view, relative to uniform ones; 0 where it is blind."""
    probability = scores.softmax(2)
    relative = (1 - OUTLIERS) * probability * scores.shape[2] + OUTLIERS
    return seen * relative.log()
