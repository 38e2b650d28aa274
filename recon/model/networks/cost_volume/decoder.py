"""Decoder from the fine stage, at 1/2 of the image size, to per-pixel Gaussian parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, unfold

from recon.model.layers.convolutions import ConvBlock, ResidualBlock
from recon.model.layers.precision import full_precision
from recon.model.networks.cost_volume.depth_distribution import DepthDistribution
from recon.model.networks.cost_volume.multi_view_consistency import NUM_CONSISTENCY_CHANNELS

SCALE = 2
NEIGHBOURS = 9
DISTRIBUTION_CHANNELS = 4
# Largest correction of a pixel's depth after the stages, as a fraction of the range.
MAX_CORRECTION = 0.02
# Fractions are kept this far from near and far, where the head's sigmoid ends.
MARGIN = 1e-3


class Decoder(nn.Module):
    """Convex upsampling of the depth, with a small correction (Teed and Deng 2020, section 3.3).

    A pixel's depth is a mix of its nine neighbours' at 1/2, weighted by the context. Where the
    stages are uncertain the mix relies on confident neighbours: no pixel is left out.
    """

    def __init__(self, context: int, evidence: int, hidden: int, raw: int) -> None:
        super().__init__()
        self.raw = raw
        channels = context + DISTRIBUTION_CHANNELS + NUM_CONSISTENCY_CHANNELS + evidence
        self.enter = ConvBlock(2, channels, hidden)
        self.body = nn.Sequential(ResidualBlock(2, hidden), ResidualBlock(2, hidden))
        self.leave = nn.Conv2d(hidden, SCALE**2 * (NEIGHBOURS + raw), 1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self,
        context: Float[Tensor, "n c h w"],
        coarse: DepthDistribution,
        fine: DepthDistribution,
        channels: Float[Tensor, "n k h w"],
    ) -> Float[Tensor, "n hf wf raw"]:
        """Return the raw channels of the Gaussian head, of which the first is the depth."""
        size = fine.fraction.shape[-2:]
        coarse_fraction = interpolate(coarse.fraction[:, None], size, mode="bilinear")
        moments = [fine.fraction, fine.spread.clamp_min(1e-5).log() / 4, fine.confidence]
        depth_channels = torch.cat([coarse_fraction, torch.stack(moments, 1), channels], 1)
        hidden = self.body(self.enter(torch.cat([context, depth_channels], 1)))
        out = self.leave(hidden).float()
        mask, raw = out.split([SCALE**2 * NEIGHBOURS, SCALE**2 * self.raw], 1)
        fraction = convex_upsample(fine.fraction, mask)
        raw = pixel_shuffle(raw, SCALE).movedim(1, -1)
        fraction = (fraction + MAX_CORRECTION * torch.tanh(raw[..., 0])).clamp(MARGIN, 1 - MARGIN)
        # The head's sigmoid goes from near to far.
        return torch.cat([torch.logit(1 - fraction)[..., None], raw[..., 1:]], -1)


@full_precision
def convex_upsample(
    values: Float[Tensor, "n h w"], mask: Float[Tensor, "n m h w"]
) -> Float[Tensor, "n hf wf"]:
    """Upsample by 2: each new pixel mixes the 3x3 values around it by the softmax of its mask."""
    n, h, w = values.shape
    weights = mask.unflatten(1, (NEIGHBOURS, SCALE**2)).softmax(1)
    padded = torch.nn.functional.pad(values[:, None], (1, 1, 1, 1), mode="replicate")
    around = unfold(padded, 3).reshape(n, NEIGHBOURS, 1, h, w)
    return pixel_shuffle((weights * around).sum(1), SCALE)[:, 0]
