"""Parameters of the optimisation, in spaces where equal steps have similar effects."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.optimisation.adam import Adam, AdamScene
from recon.optimisation.camera_corrections import CameraCorrections
from recon.optimisation.config import OptimiseConfig
from recon.optimisation.haze import is_haze
from recon.optimisation.photo_loss import photo_loss
from recon.optimisation.robust_weights import RobustWeights
from recon.optimisation.view_count_policy import POLICY
from recon.spread import spread_cameras
from recon.types import PackedViews, Views
from render import Cameras, Gaussians, GradientRender, RasterizeSettings
from render.footprints import Footprints
from render.rasterize import with_near_plane

SETTINGS = RasterizeSettings(render_mode="RGB")
# No Gaussian gets thinner than this fraction of a pixel, or than it was: the views cannot tell,
# because the rasterizer blurs by about as much, but a closer camera would see gaps (the 3D
# smoothing filter of Mip-Splatting, Yu et al. 2024, section 4.1).
MIN_SCALE_PX = 0.5
# Number of cameras that this is measured with, if there are more: neighbours of a sequence see
# Gaussians from the same distance.
MAX_CAMERAS = 64
# At that limit this fraction of a scale stays free, so that the gradient does not vanish.
FREE_FRACTION = 0.1


@dataclass(frozen=True)
class RateFactors:
    """Factors of the initial learning rates in a step."""

    scene: float
    positions: float
    """A further factor of those of positions."""
    exposures: float


@dataclass(frozen=True)
class _Fit:
    """How a view fits its photo."""

    error: Float[Tensor, ""]
    """Its part of the mean absolute error."""
    v_exposure: Float[Tensor, " 3"]
    """Gradient of the view's exposure."""
    difference: Float[Tensor, "3 h w"]
    """Render minus photo."""


class Parameters:
    """The parameters of a scene and of the views' exposures, with their optimiser."""

    def __init__(
        self, start: Gaussians, cameras: Cameras, config: OptimiseConfig, antialiased: bool = False
    ) -> None:
        """Start at a scene.

        Args:
            start: Scene to optimise.
            cameras: Cameras of the views, which limit how thin a Gaussian may get.
            config: Learning rates; parameters with a rate of 0 are constant.
            antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
        """
        start = start.detach().extend_sh(config.sh_degree or 0)
        self.scene = AdamScene.of(start, _min_scales(start, cameras))
        # Once, since it is measured on the scene, which on a GPU would wait for every step.
        settings = replace(SETTINGS, antialiased=antialiased)
        self.settings = with_near_plane(settings, start)
        self.ssim_weight = config.ssim_weight
        self.backgrounds = torch.Generator().manual_seed(0) if config.random_backgrounds else None
        self.rates = {
            "means": config.lr_mean,
            "quats": config.lr_quat,
            "scales": config.lr_scale,
            "opacities": config.lr_opacity,
            "sh": config.lr_sh,
        }
        self.gradients = start.map(_empty_like)
        self.num_steps = 0
        self.corrections: CameraCorrections | None = None
        if config.lr_camera > 0 and len(cameras) >= POLICY.min_views_cameras:
            self.corrections = CameraCorrections(cameras, start.means, config.lr_camera)
        self.log_exposures = torch.zeros(len(cameras), 3, device=start.device)
        self.lr_exposure = config.lr_exposure
        self.adam = Adam(self.log_exposures)

    def gaussians(self) -> Gaussians:
        """Return a copy of the current scene."""
        scene = self.scene.gaussians.map(Tensor.clone)
        torch.nn.functional.normalize(scene.quats, dim=-1, out=scene.quats)
        return scene

    def exposures(self) -> Float[Tensor, "v 3"]:
        """Compute the views' exposures relative to their geometric mean, which is the scene's."""
        return (self.log_exposures - self.log_exposures.mean(0)).exp()

    def step(
        self,
        views: Views | PackedViews,
        chosen: list[int],
        factors: RateFactors,
        weights: RobustWeights | None = None,
    ) -> float:
        """Take one step on some of the views.

        Args:
            views: All views.
            chosen: Indices of the views of this step.
            factors: Factors of the initial learning rates.
            weights: Weights of the views' pixels.

        Returns:
            Mean absolute error of the chosen views before the step.
        """
        self.num_steps += 1
        exposures = self.exposures()
        v_exposures = torch.zeros_like(exposures)
        targets = [views[v] for v in chosen]
        valid = [target.valid for target in targets]
        if weights is not None:
            valid = [
                each * weights.of(v, *each.shape[-2:])
                for v, each in zip(chosen, valid, strict=True)
            ]
        # Views without a valid pixel may be chosen together.
        pixels = max(3 * sum(float(each.sum()) for each in valid), 1.0)
        error = torch.zeros((), device=exposures.device)
        for i, (v, target) in enumerate(zip(chosen, targets, strict=True)):
            fit = self._fit_view(v, target, valid[i], exposures[v], pixels, is_first=i == 0)
            if weights is not None:
                weights.update(v, fit.difference, target.valid)
            error += fit.error
            v_exposures[v] += fit.v_exposure
        rates = {name: factors.scene * rate for name, rate in self.rates.items()}
        rates["means"] *= factors.positions
        self.scene.step(self.num_steps, rates, self.gradients)
        self._step_exposures(exposures, v_exposures, factors.exposures)
        if self.corrections is not None:
            self.corrections.step(factors.scene)
        return float(error)

    def _fit_view(
        self,
        v: int,
        target: Views,
        valid: Float[Tensor, "1 h w"],
        exposure: Float[Tensor, " 3"],
        pixels: float,
        is_first: bool,
    ) -> _Fit:
        """Render a view and compare it with its photo; leave the gradients of scene and camera.

        Args:
            v: Index of the view.
            target: The view.
            valid: Weights of its pixels.
            exposure: Its exposure.
            pixels: What the loss, a sum over pixels, is divided by.
            is_first: Whether the scene's gradients start with this view.
        """
        corrections = self.corrections
        camera = target.cameras if corrections is None else corrections.camera(v)
        render = GradientRender(self.scene.gaussians, camera.detach(), self.settings)
        exposure = exposure[:, None, None]
        background = self._background(exposure)
        image = (render.rgb * exposure).addcmul_(1 - render.alpha, background)
        photo = target.images.addcmul(1 - target.masks, background)
        absolute, gradient = photo_loss(image, photo, valid, self.ssim_weight)
        gradient /= pixels
        v_exposure = (gradient * render.rgb).sum((-2, -1))
        v_alpha = -(gradient * background).sum(0, keepdim=True)
        gradient *= exposure
        v_viewmat = render.backward(gradient, self.gradients, not is_first, v_alpha)
        if corrections is not None:
            camera.viewmats.backward(v_viewmat)
        return _Fit(absolute / pixels, v_exposure, image - photo)

    def _background(self, like: Float[Tensor, "3 1 1"]) -> Float[Tensor, "3 1 1"]:
        """Draw the colour behind an image, on the device of another tensor."""
        if self.backgrounds is None:
            return torch.zeros_like(like)
        return torch.rand(3, 1, 1, generator=self.backgrounds).to(like)

    def hide_haze(self, cameras: Cameras, radius: float) -> None:
        """Hide Gaussians near a camera that most views see through (see `is_haze`).

        Args:
            cameras: The given cameras of all views.
            radius: What is near, relative to the median depth of a camera.
        """
        if self.corrections is not None:
            cameras = self.corrections.cameras()
        self.scene.hide(is_haze(self.scene.gaussians, cameras, radius))

    def drop_small_corrections(self) -> None:
        """Give cameras their own poses back if the corrections are within the noise."""
        if self.corrections is not None and self.corrections.is_noise():
            self.corrections = None

    def _step_exposures(self, exposures: Tensor, v_exposures: Tensor, lr_factor: float) -> None:
        if lr_factor * self.lr_exposure == 0:
            return
        gradient = exposures * v_exposures
        gradient -= gradient.mean(0)  # exposures are relative to their mean
        self.adam.step(gradient, lr_factor * self.lr_exposure)


def _empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _min_scales(start: Gaussians, cameras: Cameras) -> Float[Tensor, "n 3"]:
    """Compute the lower limit of each Gaussian's scales (world units)."""
    cameras = cameras[spread_cameras(cameras, MAX_CAMERAS)]
    limit = MIN_SCALE_PX * Footprints.of(start.means, cameras).size
    return torch.minimum(limit[:, None], math.sqrt(1 - FREE_FRACTION**2) * start.scales)
