"""One stage: depth hypotheses in, a depth distribution out."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.model.layers.convolutions import CONV, CONV_TRANSPOSE, ConvBlock, ResidualBlock
from recon.model.networks.cost_volume.config import CostVolumeConfig
from recon.model.networks.cost_volume.depth_distribution import DepthDistribution, DepthHypotheses
from recon.model.networks.cost_volume.matching import (
    NUM_PHOTOMETRIC_CHANNELS,
    RADII,
    FeatureLevel,
)
from recon.model.networks.cost_volume.multi_view_consistency import (
    NUM_CONSISTENCY_CHANNELS,
    MultiViewConsistency,
)


class CostVolumeStage(nn.Module):
    """Matching features, and the 3D network that scores the hypotheses."""

    def __init__(self, context: int, config: CostVolumeConfig, with_consistency: bool) -> None:
        super().__init__()
        groups, volume = config.groups, config.volume
        self.groups, self.carry = groups, config.carry and with_consistency
        self.matched = nn.Conv2d(context, 4 * groups, 1)
        self.likelihood = (
            nn.Conv3d(groups + len(RADII) + 1, 1, 1, bias=False) if config.joint else None
        )
        # One more channel: the hypothesis' own fraction.
        channels = groups + NUM_PHOTOMETRIC_CHANNELS + 1 + config.joint + self.carry
        channels += with_consistency * NUM_CONSISTENCY_CHANNELS
        self.regulariser = Regulariser(channels, context, volume)

    def forward(
        self,
        level: FeatureLevel,
        hypotheses: DepthHypotheses,
        prior: Float[Tensor, "n d h w"] | None,
        consistency: MultiViewConsistency | None,
        recompute: bool,
    ) -> DepthDistribution:
        """Score the hypotheses of all views.

        Without gradients the views are processed one by one, since a volume is large.

        Args:
            level: All views; the feature maps are the context.
            hypotheses: Depths to test.
            prior: Log-probabilities added to the scores.
            consistency: Depths of the previous stage, for a stage built `with_consistency`.
            recompute: Recompute the scores in the backward pass, to save memory.
        """
        matched = replace(level, feature_maps=self.matched(level.feature_maps)).normalised(
            self.groups
        )
        views = torch.arange(len(level.images), device=level.images.device)
        parts = (level, matched, hypotheses, consistency)
        if not torch.is_grad_enabled():
            scores = torch.cat([self._scores(*parts, view) for view in views.split(1)])
        elif recompute:
            scores = checkpoint(self._scores, *parts, views, use_reentrant=False)
        else:
            scores = self._scores(*parts, views)
        return DepthDistribution.from_scores(
            scores if prior is None else scores + prior, hypotheses
        )

    def _scores(
        self,
        level: FeatureLevel,
        matched: FeatureLevel,
        hypotheses: DepthHypotheses,
        consistency: MultiViewConsistency | None,
        views: Int[Tensor, " m"],
    ) -> Float[Tensor, "m d h w"]:
        disparity = hypotheses.disparity[views]
        matching = matched.match(views, disparity, self.groups, self.likelihood)
        fraction = hypotheses.fraction[views].expand(len(views), *matching.shape[2:])[:, None]
        channels = [matching, fraction]
        if consistency is not None:
            channels.append(consistency.evaluate(views, disparity))
        if self.carry and consistency is not None:
            channels.append(consistency.distribution.map(lambda t: t[views]).log_density(fraction))
        scores: Tensor = self.regulariser(torch.cat(channels, 1), level.feature_maps[views])
        return scores


class Regulariser(nn.Module):
    """A 3D U-Net over hypotheses, rows and columns (as in MVSNet, Yao et al. 2018, section 3.3).

    All three sizes must be multiples of 4.
    """

    def __init__(self, matching: int, context: int, channels: int) -> None:
        super().__init__()
        wide, wider = 2 * channels, 4 * channels
        self.first = CONV[3](matching, channels, 3, padding=1)
        self.context = nn.Conv2d(context, channels, 1)
        self.level1 = ResidualBlock(3, channels)
        self.down1 = ConvBlock(3, channels, wide, stride=2)
        self.level2 = ResidualBlock(3, wide)
        self.down2 = ConvBlock(3, wide, wider, stride=2)
        self.level3 = ResidualBlock(3, wider)
        self.up2 = CONV_TRANSPOSE[3](wider, wide, 2, stride=2)
        self.blend2 = ConvBlock(3, wide, wide)
        self.up1 = CONV_TRANSPOSE[3](wide, channels, 2, stride=2)
        self.blend1 = ConvBlock(3, channels, channels)
        self.score = nn.Conv3d(channels, 1, 1)

    def forward(
        self, matching: Float[Tensor, "m e d h w"], context: Float[Tensor, "m c h w"]
    ) -> Float[Tensor, "m d h w"]:
        """Return one score per hypothesis, whose softmax is the depth distribution."""
        mixed = torch.relu(self.first(matching) + self.context(context)[:, :, None])
        level1 = self.level1(mixed)
        level2 = self.level2(self.down1(level1))
        level3 = self.level3(self.down2(level2))
        level2 = self.blend2(level2 + self.up2(level3))
        level1 = self.blend1(level1 + self.up1(level2))
        scores: Tensor = self.score(level1)
        return scores[:, 0].float()
