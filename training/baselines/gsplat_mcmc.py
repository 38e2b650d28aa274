"""3D Gaussian Splatting as Markov chain Monte Carlo (Kheradmand et al. 2024), on given views.

Dead Gaussians are relocated to live ones, and positions are perturbed by noise.
"""

import time
from dataclasses import dataclass
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.optimisation.photo_loss import ssim
from recon.types import Views
from render import Gaussians, rasterize
from training.rendering import SETTINGS

# Maximum number of copies of one Gaussian, as in gsplat.
MAX_COPIES = 51
# Names of Adam's moments.
MOMENTS = ("exp_avg", "exp_avg_sq")
# Degree of SH of the reference implementation.
MAX_SH_DEGREE = 3


@dataclass(frozen=True)
class McmcConfig:
    """Learning rates of 3DGS (Kerbl et al. 2023), regularisers of MCMC, as in gsplat's trainer."""

    seconds: float
    """Length of the schedule (s)."""
    lr_means: float = 1.6e-4
    """Learning rate of the means, relative to the size of the scene; decays to a hundredth."""
    lr_scales: float = 5e-3
    """Learning rate of the log scales."""
    lr_quats: float = 1e-3
    """Learning rate of the quaternions."""
    lr_opacities: float = 5e-2
    """Learning rate of the opacity logits."""
    lr_sh: float = 2.5e-3
    """Learning rate of the constant SH coefficients; a twentieth for the others."""
    sh_every: int = 1000
    """Steps after which colours get the next degree of SH, up to 3."""
    dssim: float = 0.2
    """Weight of DSSIM in the photometric loss; the rest is the absolute error."""
    opacity_weight: float = 0.01
    """Weight of the mean opacity in the loss."""
    scale_weight: float = 0.01
    """Weight of the mean scale, relative to the size of the scene, in the loss."""
    noise: float = 5e5
    """Scale of the position noise, relative to the learning rate of the means."""
    dead: float = 0.005
    """Gaussians of at most this opacity are relocated."""
    relocate_every: int = 100
    """Steps between relocations."""
    max_gaussians: int = 0
    """Number of Gaussians to grow to, if there are fewer."""
    grown_at: float = 5 / 6
    """Fraction of the schedule after which there are as many (25,000 of 30,000 steps in gsplat)."""
    max_steps: int | None = None
    """Number of steps after which the schedule ends before the time is up; None for no limit."""
    seed: int = 0
    """Seed of the order of views, of the noise and of relocations."""


@dataclass(frozen=True)
class McmcResult:
    """The optimised scene, and the history of the optimisation."""

    gaussians: Gaussians
    steps: int
    """Number of steps taken."""
    losses: tuple[float, ...]
    """Loss of every step, before it."""


@torch.enable_grad()
def optimise_mcmc(start: Gaussians, views: Views, config: McmcConfig) -> McmcResult:
    """Optimise Gaussians on one view per step until the time is up; at least one step."""
    began = time.monotonic()
    losses: list[float] = []
    torch.manual_seed(config.seed)
    scene = McmcScene(start, _extent(start, views), config)
    order: list[int] = []
    while not losses or time.monotonic() - began < config.seconds:
        progress = min((time.monotonic() - began) / max(config.seconds, 1e-9), 1.0)
        if config.max_steps is not None:
            if len(losses) == config.max_steps:
                break
            progress = max(progress, len(losses) / config.max_steps)
        order = order or torch.randperm(len(views)).tolist()
        losses.append(scene.step(views, order.pop(), progress))
        if len(losses) % config.relocate_every == 0:
            scene.relocate()
            scene.grow(len(start), progress)
        if len(losses) % config.sh_every == 0:
            scene.grow_sh()
    return McmcResult(scene.gaussians().detach(), len(losses), tuple(losses))


def _extent(start: Gaussians, views: Views) -> float:
    """Return the size of the scene: the spread of the cameras, as in 3DGS.

    It is at least half the median distance of the points, since few cameras may be close together.
    """
    centers = views.cameras.centers
    spread = float((centers - centers.mean(0)).norm(dim=1).max()) * 1.1
    return max(spread, 0.5 * float(torch.cdist(start.means[::97], centers).amin(1).median()))


class McmcScene:
    """Parameters of the Gaussians and their optimiser."""

    def __init__(self, start: Gaussians, extent: float, config: McmcConfig) -> None:
        self.extent, self.config = extent, config
        start = start.detach()
        self.values = {
            "means": start.means.clone(),
            "quats": start.quats.clone(),
            "scales": start.scales.log(),
            "opacities": torch.logit(start.opacities),
            "sh": start.sh[:, :1].clone(),
        }
        rates = {name: getattr(config, f"lr_{name}") for name in self.values}
        if start.sh_degree > 0:
            self.values["sh_rest"] = start.sh[:, 1:].clone()
            rates["sh_rest"] = config.lr_sh / 20
        rates["means"] *= extent
        groups = [
            {"params": [value.requires_grad_()], "lr": rates[name], "name": name}
            for name, value in self.values.items()
        ]
        self.adam = torch.optim.Adam(groups, eps=1e-15, fused=True)

    def gaussians(self) -> Gaussians:
        """Return the current Gaussians, attached to the parameters."""
        values = self.values
        sh = values["sh"]
        if "sh_rest" in values:
            sh = torch.cat([sh, values["sh_rest"]], 1)
        return Gaussians(
            values["means"],
            torch.nn.functional.normalize(values["quats"], dim=-1),
            values["scales"].exp(),
            torch.sigmoid(values["opacities"]),
            sh,
        )

    def step(self, views: Views, index: int, progress: float) -> float:
        """Take one step on one view; return its loss before the step."""
        config = self.config
        lr = config.lr_means * self.extent * 0.01**progress
        self.adam.param_groups[0]["lr"] = lr
        gaussians = self.gaussians()
        rendered = rasterize(gaussians, views.cameras[[index]], settings=SETTINGS).rgb
        loss = _photometric_loss(rendered, views, index, config.dssim)
        loss = loss + config.opacity_weight * gaussians.opacities.mean()
        loss = loss + config.scale_weight * gaussians.scales.mean() / self.extent
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            gaussians = self.gaussians()
            noise = position_noise(gaussians.covars(), gaussians.opacities, lr * config.noise)
            self.values["means"] += noise
        return float(loss.detach())

    @torch.no_grad()
    def grow_sh(self) -> None:
        """Give colours the next degree of spherical harmonics, from zero, up to MAX_SH_DEGREE."""
        degree = self.gaussians().sh_degree + 1
        if degree > MAX_SH_DEGREE:
            return
        missing = 2 * degree + 1
        old = self.values.get("sh_rest", self.values["sh"][:, :0])
        new = torch.nn.functional.pad(old.detach(), (0, 0, 0, missing)).requires_grad_()
        if degree == 1:
            group = {"params": [new], "lr": self.config.lr_sh / 20, "name": "sh_rest"}
            self.values["sh_rest"] = new
            self.adam.add_param_group(group)
            return
        self._replace("sh_rest", new)

    @torch.no_grad()
    def grow(self, start: int, progress: float) -> None:
        """Add copies of Gaussians, drawn by opacity, so that the number grows exponentially.

        gsplat adds 5 % every 100 of 30,000 steps; a schedule of a few hundred steps adds more.

        Args:
            start: Number of Gaussians at the beginning.
            progress: Completed fraction of the schedule.
        """
        count, most = len(self.values["means"]), self.config.max_gaussians
        if most <= start:
            return
        fraction = min(progress / self.config.grown_at, 1.0)
        added = round(start * (most / start) ** fraction) - count
        if added <= 0:
            return
        opacities = self.values["opacities"].detach()
        sources = sample_indices(torch.sigmoid(opacities), added)
        self._divide(sources, torch.bincount(sources, minlength=count) + 1)
        for name, value in self.values.items():
            self._replace(name, torch.cat([value.detach(), value.detach()[sources]]))

    @torch.no_grad()
    def relocate(self) -> None:
        """Replace dead Gaussians by copies of live ones, drawn by opacity.

        Originals and copies are dimmed and shrunk so that renders stay nearly the same (eq. 9).
        """
        gaussians = self.gaussians()
        is_dead = gaussians.opacities <= self.config.dead
        dead = is_dead.nonzero()[:, 0]
        if len(dead) == 0 or bool(is_dead.all()):
            return
        sources = sample_indices(torch.where(is_dead, 0.0, gaussians.opacities), len(dead))
        self._divide(sources, torch.bincount(sources, minlength=len(is_dead)) + 1)
        for value in self.values.values():
            value[dead] = value[sources]

    def _divide(self, sources: Int[Tensor, " m"], counts: Int[Tensor, " n"]) -> None:
        """Dim and shrink Gaussians for as many of them as `counts` to look like one."""
        gaussians = self.gaussians()
        opacities, scales = relocated(
            gaussians.opacities[sources], gaussians.scales[sources], counts[sources]
        )
        opacities = opacities.clamp(self.config.dead, 1 - 1e-6)
        self.values["opacities"][sources] = torch.logit(opacities)
        self.values["scales"][sources] = scales.log()
        for value in self.values.values():
            state = self.adam.state[value]
            for moment in MOMENTS:
                state[moment][sources] = 0

    def _replace(self, name: str, larger: Tensor) -> None:
        """Replace a parameter by one with more entries, whose moments start at zero."""
        old, new = self.values[name], larger.requires_grad_()
        state = self.adam.state.pop(old)
        for moment in MOMENTS:
            zeros = torch.zeros_like(larger)
            zeros[tuple(map(slice, old.shape))] = state[moment]
            state[moment] = zeros
        self.adam.state[new] = state
        for group in self.adam.param_groups:
            group["params"] = [new if each is old else each for each in group["params"]]
        self.values[name] = new


def relocated(
    opacities: Float[Tensor, " m"], scales: Float[Tensor, "m 3"], counts: Int[Tensor, " m"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, "m 3"]]:
    """Return opacity and scale of each of `counts` copies that together look like one (eq. 9)."""
    counts = counts.clamp(1, MAX_COPIES)
    new = 1 - (1 - opacities.double()).pow(1 / counts)
    total = torch.zeros_like(new)
    for i in range(1, int(counts.max()) + 1 if len(counts) else 1):
        for k in range(i):
            term = comb(i - 1, k) * (-1) ** k / (k + 1) ** 0.5
            total += torch.where(counts >= i, term * new.pow(k + 1), 0.0)
    coefficient = opacities / total.clamp_min(1e-12)
    return new.to(opacities), (coefficient[:, None] * scales).to(scales)


def position_noise(
    covars: Float[Tensor, "n 3 3"], opacities: Float[Tensor, " n"], lr: float
) -> Float[Tensor, "n 3"]:
    """Draw noise for the means, shaped like the Gaussians and only for faint ones (eq. 8).

    Args:
        covars: Covariances of the Gaussians.
        opacities: Opacities of the Gaussians.
        lr: Learning rate of the means times 5e5.
    """
    faint = torch.sigmoid(100 * ((1 - opacities) - 0.995))
    steps = torch.randn(len(opacities), 3) * (faint * lr)[:, None]
    return torch.einsum("nij,nj->ni", covars, steps)


def sample_indices(weights: Float[Tensor, " n"], count: int) -> Int[Tensor, " count"]:
    """Draw indices by weight, with replacement; torch.multinomial is limited to 2^24 categories."""
    total = weights.double().cumsum(0)
    thresholds = torch.rand(count, dtype=torch.float64) * total[-1]
    return torch.searchsorted(total, thresholds).clamp_max(len(weights) - 1)


def _photometric_loss(rendered: Tensor, views: Views, index: int, dssim: float) -> Tensor:
    valid, target = views.valid[[index]], views.images[[index]]
    rendered = torch.where(valid > 0, rendered, target)
    absolute = (rendered - target).abs().sum() / (3 * valid.sum())
    return (1 - dssim) * absolute + dssim * (1 - ssim(rendered[0], target[0]))
