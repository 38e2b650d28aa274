"""Parameters of the optimisation, in spaces where equal steps have similar effects."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from recon.optimisation.agreement import GradientAgreement
from recon.optimisation.config import OptimiseConfig
from recon.types import PackedViews, Views
from render import Cameras, Gaussians, RasterizeSettings, rasterize
from render.footprints import Footprints

SETTINGS = RasterizeSettings(render_mode="RGB")
# No Gaussian gets thinner than this fraction of a pixel, or than it was: the views cannot tell,
# because the rasterizer blurs by about as much, but a closer camera would see gaps (the 3D
# smoothing filter of Mip-Splatting, Yu et al. 2024, section 4.1).
MIN_SCALE_PX = 0.5
# At that limit this fraction of a scale stays free, so that the gradient does not vanish.
FREE_FRACTION = 0.1


class Parameters:
    """The parameters of a scene and of the views' exposures, with their optimiser."""

    def __init__(self, start: Gaussians, cameras: Cameras, config: OptimiseConfig) -> None:
        """Start at a scene.

        Args:
            start: Scene to optimise.
            cameras: Cameras of the views, which limit how thin a Gaussian may get.
            config: Learning rates; parameters with a rate of 0 are constant.
        """
        self.start = start.detach()
        self.min_scales = _min_scales(self.start, cameras)
        # A Gaussian moves by fractions of its own size.
        self.unit = self.start.scales.amax(-1, keepdim=True)
        self.shift = torch.zeros_like(start.means, requires_grad=True)
        self.quats = self.start.quats.clone().requires_grad_()
        free = self.start.scales.square() - self.min_scales.square()
        self.log_scales = (0.5 * free.clamp_min(1e-24).log()).requires_grad_()
        self.logits = torch.logit(self.start.opacities.clamp(1e-4, 1 - 1e-4)).requires_grad_()
        self.sh = self.start.sh.clone().requires_grad_()
        self.log_exposures = torch.zeros(len(cameras), 3, device=start.device, requires_grad=True)
        groups = [
            (self.shift, config.lr_mean),
            (self.quats, config.lr_quat),
            (self.log_scales, config.lr_scale),
            (self.logits, config.lr_opacity),
            (self.sh, config.lr_sh),
            (self.log_exposures, config.lr_exposure),
        ]
        groups = [(tensor, lr) for tensor, lr in groups if lr > 0]
        self.adam = torch.optim.Adam(
            [{"params": [tensor], "lr": lr} for tensor, lr in groups],
            betas=(0.9, 0.99),
            eps=1e-15,
            fused=True,
        )
        self.initial_lrs = [lr for _, lr in groups]
        self.require_agreement = config.require_agreement

    def gaussians(self) -> Gaussians:
        """Compute the current scene, differentiable with respect to the parameters."""
        return Gaussians(
            means=self.start.means + self.unit * self.shift,
            quats=torch.nn.functional.normalize(self.quats, dim=-1),
            scales=((2 * self.log_scales).exp() + self.min_scales.square()).sqrt(),
            opacities=torch.sigmoid(self.logits),
            sh=self.sh,
        )

    def exposures(self) -> Float[Tensor, "v 3"]:
        """Compute the views' exposures relative to their geometric mean, which is the scene's."""
        return (self.log_exposures - self.log_exposures.mean(0)).exp()

    @torch.enable_grad()
    def step(self, views: Views | PackedViews, chosen: list[int], lr_factor: float = 1.0) -> float:
        """Take one step on some of the views.

        Args:
            views: All views.
            chosen: Indices of the views of this step.
            lr_factor: Factor of the initial learning rates.

        Returns:
            Mean absolute error of the chosen views before the step.
        """
        self.adam.zero_grad()
        agreement = GradientAgreement(self.gaussians(), len(views), self.require_agreement)
        targets = [views[v] for v in chosen]
        pixels, total = 3 * sum(float(target.valid.sum()) for target in targets), 0.0
        for v, target in zip(chosen, targets, strict=True):
            image = rasterize(agreement.scene, target.cameras, settings=SETTINGS).rgb
            image = image * self.exposures()[v][:, None, None]
            loss = ((image - target.images) * target.valid).abs().sum() / pixels
            agreement.add(loss)
            total += float(loss.detach())
        agreement.apply()
        for group, lr in zip(self.adam.param_groups, self.initial_lrs, strict=True):
            group["lr"] = lr_factor * lr
        self.adam.step()
        return total


def _min_scales(start: Gaussians, cameras: Cameras) -> Float[Tensor, "n 3"]:
    """Compute the lower limit of each Gaussian's scales (world units)."""
    limit = MIN_SCALE_PX * Footprints.of(start.means, cameras).size
    return torch.minimum(limit[:, None], math.sqrt(1 - FREE_FRACTION**2) * start.scales)
