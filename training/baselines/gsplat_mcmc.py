"""The optimisation: Adam, L1 and DSSIM, relocation and noise, for a given time."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from recon.types import Views
from render import Gaussians, RasterizeSettings, rasterize
from training.baselines.relocation import position_noise, relocated

SETTINGS = RasterizeSettings(render_mode="RGB")


@dataclass(frozen=True)
class ScratchConfig:
    """3DGS's learning rates (Kerbl et al. 2023) and MCMC's regularisers (Kheradmand et al. 2024),
    as in gsplat's trainer. Colours do not depend on direction: these schedules are too short to
    get to the first band of SH."""

    seconds: float
    """Length of the schedule (s)."""
    mean: float = 1.6e-4
    """Of means, relative to the size of the scene; falls to a hundredth by the end."""
    scale: float = 5e-3
    quat: float = 1e-3
    opacity: float = 5e-2
    color: float = 2.5e-3
    dssim: float = 0.2
    """Share of DSSIM in the loss."""
    opacity_weight: float = 0.01
    """Of the mean opacity in the loss."""
    scale_weight: float = 0.01
    """Of the mean scale, relative to the size of the scene, in the loss."""
    noise: float = 5e5
    """Of positions, times their learning rate."""
    dead: float = 0.005
    """Opacities up to this are moved elsewhere."""
    relocate_every: int = 100
    """Steps."""
    seed: int = 0
    """Of photos and noise."""


@dataclass(frozen=True)
class Optimised:
    """The scene, and how it went."""

    gaussians: Gaussians
    steps: int
    losses: tuple[float, ...]


@torch.enable_grad()
def optimise(start: Gaussians, views: Views, config: ScratchConfig) -> Optimised:
    """Fit to the views, one photo a step, until the time is up; at least one step."""
    began = time.monotonic()
    losses: list[float] = []
    torch.manual_seed(config.seed)
    scene = _Scene(start, _extent(start, views), config)
    order: list[int] = []
    while not losses or time.monotonic() - began < config.seconds:
        done = min((time.monotonic() - began) / max(config.seconds, 1e-9), 1.0)
        order = order or torch.randperm(len(views)).tolist()
        losses.append(scene.step(views, order.pop(), done))
        if len(losses) % config.relocate_every == 0:
            scene.relocate()
    return Optimised(scene.gaussians().detach(), len(losses), tuple(losses))


def _extent(start: Gaussians, views: Views) -> float:
    """Size of the scene: how far the cameras stand apart, or half as far as the middle point is
    away if that is more (few photos stand close together)."""
    centers = views.cameras.centers
    spread = float((centers - centers.mean(0)).norm(dim=1).max()) * 1.1
    return max(spread, 0.5 * float(torch.cdist(start.means[::97], centers).amin(1).median()))


class _Scene:
    def __init__(self, start: Gaussians, extent: float, config: ScratchConfig) -> None:
        self.extent, self.config = extent, config
        start = start.detach()
        self.values = {
            "mean": start.means.clone(),
            "quat": start.quats.clone(),
            "scale": start.scales.log(),
            "opacity": torch.logit(start.opacities),
            "color": start.sh.clone(),
        }
        rates = {name: getattr(config, name) for name in self.values}
        rates["mean"] *= extent
        groups = [
            {"params": [value.requires_grad_()], "lr": rates[name], "name": name}
            for name, value in self.values.items()
        ]
        self.adam = torch.optim.Adam(groups, eps=1e-15, fused=True)

    def gaussians(self) -> Gaussians:
        """The scene as it is now."""
        values = self.values
        return Gaussians(
            values["mean"],
            torch.nn.functional.normalize(values["quat"], dim=-1),
            values["scale"].exp(),
            torch.sigmoid(values["opacity"]),
            values["color"],
        )

    def step(self, views: Views, photo: int, done: float) -> float:
        """One step on one photo; its loss before it."""
        config = self.config
        lr = config.mean * self.extent * 0.01**done
        self.adam.param_groups[0]["lr"] = lr
        now = self.gaussians()
        shown = rasterize(now, views.cameras[[photo]], settings=SETTINGS).rgb
        loss = _difference(shown, views, photo, config.dssim)
        loss = loss + config.opacity_weight * now.opacities.mean()
        loss = loss + config.scale_weight * now.scales.mean() / self.extent
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            now = self.gaussians()
            self.values["mean"] += position_noise(now.covars(), now.opacities, lr * config.noise)
        return float(loss.detach())

    @torch.no_grad()
    def relocate(self) -> None:
        """Dead Gaussians become copies of live ones, drawn by opacity; what is copied is dimmed
        and shrunk so that the picture stays."""
        now = self.gaussians()
        dead = now.opacities <= self.config.dead
        homeless = dead.nonzero()[:, 0]
        if len(homeless) == 0 or bool(dead.all()):
            return
        chance = torch.where(dead, 0.0, now.opacities)
        hosts = _draw(chance, len(homeless))
        counts = torch.bincount(hosts, minlength=len(dead)) + 1
        opacities, scales = relocated(now.opacities[hosts], now.scales[hosts], counts[hosts])
        opacities = opacities.clamp(self.config.dead, 1 - 1e-6)
        self.values["opacity"][hosts] = torch.logit(opacities)
        self.values["scale"][hosts] = scales.log()
        for value in self.values.values():
            value[homeless] = value[hosts]
            state = self.adam.state[value]
            for moment in ("exp_avg", "exp_avg_sq"):
                state[moment][hosts] = 0


def _draw(chance: Tensor, count: int) -> Tensor:
    """Indices by weight, with return; torch.multinomial ends at 2^24 categories."""
    total = chance.double().cumsum(0)
    places = torch.rand(count, dtype=torch.float64) * total[-1]
    return torch.searchsorted(total, places).clamp_max(len(chance) - 1)


def _difference(shown: Tensor, views: Views, photo: int, dssim: float) -> Tensor:
    valid, truth = views.valid[[photo]], views.images[[photo]]
    shown = torch.where(valid > 0, shown, truth)
    absolute = (shown - truth).abs().sum() / (3 * valid.sum())
    alike = structural_similarity_index_measure(shown, truth, data_range=1.0)
    assert isinstance(alike, Tensor)
    return (1 - dssim) * absolute + dssim * (1 - alike)
