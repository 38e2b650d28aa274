"""From the second sweep, at 1/2, to Gaussians at full size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, unfold

from recon.model.layers.convolutions import ConvBlock, ResidualBlock
from recon.model.layers.precision import full_precision
from recon.model.networks.cost_volume.depth_distribution import Belief
from recon.model.networks.cost_volume.multi_view_consistency import VOTES

SCALE = 2
NEIGHBOURS = 9
BELIEF_CHANNELS = 4
# Largest correction of a pixel's depth after the sweeps, as a fraction of the range.
CORRECTION = 0.02
# Fractions are kept this far from near and far, where the head's sigmoid ends.
MARGIN = 1e-3


class Decoder(nn.Module):
    """Every pixel's depth is a mix of its nine neighbours' at 1/2, weighed by the context (convex
    upsampling, Teed and Deng 2020, section 3.3), plus a small correction. Where the sweeps are
    unsure the mix leans on sure neighbours: no pixel is left out."""

    def __init__(self, context: int, hidden: int, raw: int) -> None:
        super().__init__()
        self.raw = raw
        self.enter = ConvBlock(2, context + BELIEF_CHANNELS + VOTES, hidden)
        self.body = nn.Sequential(ResidualBlock(2, hidden), ResidualBlock(2, hidden))
        self.leave = nn.Conv2d(hidden, SCALE**2 * (NEIGHBOURS + raw), 1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self,
        context: Float[Tensor, "n c h w"],
        first: Belief,
        second: Belief,
        votes: Float[Tensor, "n v h w"],
    ) -> Float[Tensor, "n hf wf raw"]:
        """Raw numbers as the Gaussian head takes them; the first is the depth's."""
        size = second.fraction.shape[-2:]
        coarse = interpolate(first.fraction[:, None], size, mode="bilinear")
        own = [second.fraction, second.spread.clamp_min(1e-5).log() / 4, second.confidence]
        known = torch.cat([coarse, torch.stack(own, 1), votes], 1)
        hidden = self.body(self.enter(torch.cat([context, known], 1)))
        out = self.leave(hidden).float()
        mask, raw = out.split([SCALE**2 * NEIGHBOURS, SCALE**2 * self.raw], 1)
        fraction = enlarge(second.fraction, mask)
        raw = pixel_shuffle(raw, SCALE).movedim(1, -1)
        fraction = (fraction + CORRECTION * torch.tanh(raw[..., 0])).clamp(MARGIN, 1 - MARGIN)
        # The head's sigmoid counts from near to far.
        return torch.cat([torch.logit(1 - fraction)[..., None], raw[..., 1:]], -1)


@full_precision
def enlarge(
    values: Float[Tensor, "n h w"], mask: Float[Tensor, "n m h w"]
) -> Float[Tensor, "n hf wf"]:
    """Twice the size; each new pixel mixes the nine values around by a softmax of its mask."""
    n, h, w = values.shape
    weights = mask.unflatten(1, (NEIGHBOURS, SCALE**2)).softmax(1)
    padded = torch.nn.functional.pad(values[:, None], (1, 1, 1, 1), mode="replicate")
    around = unfold(padded, 3).reshape(n, NEIGHBOURS, 1, h, w)
    return pixel_shuffle((weights * around).sum(1), SCALE)[:, 0]
