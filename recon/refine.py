"""Test-time optimisation: a few gradient steps on the photos that made the scene.

What 3D Gaussian Splatting does for minutes from points (Kerbl et al. 2023, section 5), done for
seconds from a prediction. The photos cannot tell a scene that explains them from one that
memorises them, so steps are few, and positions move by fractions of a pixel.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.types import Views
from recon.errors import ReconError
from render import Gaussians, RasterizeSettings, rasterize

# What a time limit may be used up with.
MAX_STEPS = 3000
SETTINGS = RasterizeSettings(render_mode="RGB")
Progress = Callable[[float], None]


@dataclass(frozen=True)
class RefineConfig:
    """Adam's learning rates for each attribute; the values were measured, see experiments.md."""

    steps: int = 30
    """Gradient steps; 0 leaves the scene as it is."""
    seconds: float | None = None
    """Stop after this time, if that is earlier (s)."""
    color: float = 0.03
    """Of SH coefficients."""
    opacity: float = 0.08
    """Of the logit of opacities."""
    scale: float = 0.02
    """Of the logarithm of scales."""
    quat: float = 0.01
    """Of quaternions."""
    mean: float = 0.1
    """Of positions, in units of the Gaussian's largest scale."""
    gain: float = 0.01
    """Of each photo's exposure (logarithm, per colour channel)."""
    views_a_step: int = 4
    """Photos that are rendered for one step, in turn."""


@dataclass(frozen=True)
class Refined:
    """The better scene, and how it went."""

    gaussians: Gaussians
    gains: Float[Tensor, "v 3"]
    """Exposure of each photo relative to the scene; their geometric mean is 1."""
    steps: int
    """Steps that were taken."""
    losses: tuple[float, ...]
    """Mean absolute error of each step's photos."""


@torch.enable_grad()
def refine(
    gaussians: Gaussians, views: Views, config: RefineConfig, progress: Progress = lambda done: None
) -> Refined:
    """Fit the Gaussians to the views they came from."""
    started, losses = time.monotonic(), []
    scene = _Parameters(gaussians, len(views), config)
    order: list[int] = []
    for step in range(config.steps):
        if config.seconds is not None and time.monotonic() - started > config.seconds:
            break
        while len(order) < min(config.views_a_step, len(views)):
            order += list(range(len(views)))
        chosen = [order.pop(0) for _ in range(min(config.views_a_step, len(views)))]
        losses.append(scene.step(views, chosen))
        spent = (time.monotonic() - started) / config.seconds if config.seconds else 0.0
        progress(min(max((step + 1) / config.steps, spent), 1.0))
    return Refined(scene.gaussians().detach(), scene.gains().detach(), len(losses), tuple(losses))


def parse_refine(text: str) -> RefineConfig:
    """`30`: so many steps; `20s`: as many as take that time; ReconError for anything else."""
    number = text.removesuffix("s")
    if not number.isdecimal():
        raise ReconError(f"--refine must be steps (30) or seconds (20s), found {text!r}")
    if text.endswith("s"):
        return RefineConfig(steps=MAX_STEPS, seconds=float(number))
    return RefineConfig(steps=int(number))


class _Parameters:
    """What is optimised, in the spaces where steps are even."""

    def __init__(self, start: Gaussians, photos: int, config: RefineConfig) -> None:
        self.start = start.detach()
        # A Gaussian moves by fractions of its own size.
        self.unit = self.start.scales.amax(-1, keepdim=True)
        self.shift = torch.zeros_like(start.means, requires_grad=True)
        self.quats = self.start.quats.clone().requires_grad_()
        self.log_scales = self.start.scales.clamp_min(1e-12).log().requires_grad_()
        self.logits = torch.logit(self.start.opacities.clamp(1e-4, 1 - 1e-4)).requires_grad_()
        self.sh = self.start.sh.clone().requires_grad_()
        self.log_gains = torch.zeros(photos, 3, device=start.device, requires_grad=True)
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

    def gaussians(self) -> Gaussians:
        """The scene as it is now."""
        return Gaussians(
            means=self.start.means + self.unit * self.shift,
            quats=torch.nn.functional.normalize(self.quats, dim=-1),
            scales=self.log_scales.exp(),
            opacities=torch.sigmoid(self.logits),
            sh=self.sh,
        )

    def gains(self) -> Float[Tensor, "v 3"]:
        """Only differences between photos: what they have in common belongs to the scene."""
        return (self.log_gains - self.log_gains.mean(0)).exp()

    def step(self, views: Views, chosen: list[int]) -> float:
        """One step on some photos; their mean absolute error before it."""
        shown = rasterize(self.gaussians(), views.cameras[chosen], settings=SETTINGS).rgb
        shown = shown * self.gains()[chosen][:, :, None, None]
        valid = views.valid[chosen]
        error = ((shown - views.images[chosen]) * valid).abs().sum() / (3 * valid.sum())
        self.adam.zero_grad()
        error.backward()
        self.adam.step()
        return float(error.detach())
