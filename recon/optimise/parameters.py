"""What is optimised, in the spaces where steps are even."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from recon.optimise.agreement import Ballot
from recon.optimise.config import RefineConfig
from recon.types import Views
from render import Cameras, Gaussians, RasterizeSettings, rasterize
from render.footprints import Footprints

SETTINGS = RasterizeSettings(render_mode="RGB")
# No Gaussian gets thinner than this part of a pixel, or than it was: photos cannot tell, because
# the rasterizer blurs by about as much, but a closer look would show gaps (the 3D smoothing filter
# of Mip-Splatting, Yu et al. 2024, section 4.1).
THINNEST_PX = 0.5
# At the limit a Gaussian keeps a way to grow: this part of its scale is free.
FREE = 0.1


class Parameters:
    """The scene and the photos' exposures; `step` moves them."""

    def __init__(self, start: Gaussians, cameras: Cameras, config: RefineConfig) -> None:
        """`cameras` are those of the photos."""
        self.start = start.detach()
        self.thinnest = _thinnest(self.start, cameras)
        # A Gaussian moves by fractions of its own size.
        self.unit = self.start.scales.amax(-1, keepdim=True)
        self.shift = torch.zeros_like(start.means, requires_grad=True)
        self.quats = self.start.quats.clone().requires_grad_()
        free = self.start.scales.square() - self.thinnest.square()
        self.log_scales = (0.5 * free.clamp_min(1e-24).log()).requires_grad_()
        self.logits = torch.logit(self.start.opacities.clamp(1e-4, 1 - 1e-4)).requires_grad_()
        self.sh = self.start.sh.clone().requires_grad_()
        self.log_gains = torch.zeros(len(cameras), 3, device=start.device, requires_grad=True)
        groups = [
            (self.shift, config.mean),
            (self.quats, config.quat),
            (self.log_scales, config.scale),
            (self.logits, config.opacity),
            (self.sh, config.color),
            (self.log_gains, config.gain),
        ]
        groups = [(tensor, rate) for tensor, rate in groups if rate > 0]
        self.adam = torch.optim.Adam(
            [{"params": [tensor], "lr": rate} for tensor, rate in groups],
            betas=(0.9, 0.99),
            eps=1e-15,
            fused=True,
        )
        self.rates = [rate for _, rate in groups]
        self.unanimous = config.unanimous

    def gaussians(self) -> Gaussians:
        """The scene as it is now."""
        return Gaussians(
            means=self.start.means + self.unit * self.shift,
            quats=torch.nn.functional.normalize(self.quats, dim=-1),
            scales=((2 * self.log_scales).exp() + self.thinnest.square()).sqrt(),
            opacities=torch.sigmoid(self.logits),
            sh=self.sh,
        )

    def gains(self) -> Float[Tensor, "v 3"]:
        """Only differences between photos: what they have in common belongs to the scene."""
        return (self.log_gains - self.log_gains.mean(0)).exp()

    @torch.enable_grad()
    def step(self, views: Views, chosen: list[int], rate: float = 1.0) -> float:
        """One step on some photos, with this part of the learning rates; their mean absolute error
        before it."""
        self.adam.zero_grad()
        ballot = Ballot(self.gaussians(), len(views), self.unanimous)
        pixels, total = 3 * views.valid[chosen].sum(), 0.0
        for v in chosen:
            shown = rasterize(ballot.paper, views.cameras[[v]], settings=SETTINGS).rgb[0]
            shown = shown * self.gains()[v][:, None, None]
            error = ((shown - views.images[v]) * views.valid[v]).abs().sum() / pixels
            ballot.cast(error)
            total += float(error.detach())
        ballot.count()
        for group, start in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * start
        self.adam.step()
        return total


def _thinnest(start: Gaussians, cameras: Cameras) -> Float[Tensor, "n 3"]:
    """Least scales (world units)."""
    limit = THINNEST_PX * Footprints.of(start.means, cameras).size
    return torch.minimum(limit[:, None], math.sqrt(1 - FREE**2) * start.scales)
