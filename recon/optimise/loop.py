"""Test-time optimisation: a few gradient steps on the photos that made the scene.

What 3D Gaussian Splatting does for minutes from points (Kerbl et al. 2023, section 5), done for
seconds from a prediction. The photos cannot tell a scene that explains them from one that
memorises them, so steps are few, and positions move by fractions of a pixel.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from recon.optimise.config import RefineConfig
from recon.optimise.parameters import Parameters
from recon.types import Progress, Views
from render import Gaussians

Watch = Callable[[Gaussians], None]
# Steps between two states that a watcher is shown.
WATCH_EVERY = 5


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


def refine(
    gaussians: Gaussians,
    views: Views,
    config: RefineConfig,
    progress: Progress = lambda done: None,
    watch: Watch | None = None,
) -> Refined:
    """Fit the Gaussians to the views they came from; `watch` is shown the scene on the way."""
    scene, losses = Parameters(gaussians, views.cameras, config), []
    for step, loss in take_steps(scene, views, config, progress):
        losses.append(loss)
        if watch is not None and step % WATCH_EVERY == 0:
            watch(scene.gaussians().detach())
    return Refined(scene.gaussians().detach(), scene.gains().detach(), len(losses), tuple(losses))


def take_steps(
    scene: Parameters, views: Views, config: RefineConfig, progress: Progress
) -> Iterator[tuple[int, float]]:
    """Step until the steps or the seconds are over; the steps so far and the last one's loss."""
    started, count = time.monotonic(), min(config.views_a_step, len(views))
    order: list[int] = []
    for step in range(1, config.steps + 1):
        done = (step - 1) / config.steps
        if config.seconds is not None:
            done = max(done, (time.monotonic() - started) / max(config.seconds, 1e-9))
        if done >= 1:
            return
        progress(done)
        while len(order) < count:
            order += list(range(len(views)))
        chosen, order = order[:count], order[count:]
        yield step, scene.step(views, chosen, 0.5 + 0.5 * math.cos(math.pi * done))
    progress(1.0)
