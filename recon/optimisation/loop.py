"""Test-time optimisation: a few gradient steps on the views that a scene was predicted from.

3D Gaussian Splatting does this for minutes, from a point cloud (Kerbl et al. 2023, section 5); here
it takes seconds, from a prediction. Few views cannot distinguish a scene that explains them from
one that memorises them, so steps are few, and positions move by fractions of a pixel.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from recon.optimisation.config import OptimiseConfig
from recon.optimisation.parameters import Parameters, RateFactors
from recon.optimisation.robust_weights import RobustWeights
from recon.optimisation.view_count_policy import POLICY
from recon.types import PackedViews, Progress, StopEarly, Views
from render import Cameras, Gaussians
from render.backends.threads import torch_on_one_thread

# Called with the scene during the optimisation, detached from the parameters.
Watch = Callable[[Gaussians], None]
# Steps and time (s) between two calls of it: a browser cannot display small scenes as fast as they
# change.
WATCH_EVERY, WATCH_SECONDS = 5, 3.0
# Fraction of the steps after which small corrections of the cameras are dropped.
SETTLED_FRACTION = 1 / 3
# Fraction of the steps after which haze is hidden: surfaces are clear, and what it gave to single
# views can still be made up for.
HAZE_FRACTION = 1 / 2
# Fraction of the steps after which suspect pixels that the scene explains get their weight back.
WARM_UP_FRACTION = 1 / 3


@dataclass(frozen=True)
class OptimiseResult:
    """An optimised scene and the history of the optimisation."""

    gaussians: Gaussians
    exposures: Float[Tensor, "v 3"]
    """Exposure of each view relative to the scene, per colour channel; the geometric mean over the
    views is 1."""
    steps: int
    """Number of steps that were taken."""
    losses: tuple[float, ...]
    """Mean absolute error of each step's views, before the step."""
    cameras: Cameras | None = None
    """Corrected cameras; None if the given ones were kept."""


def optimise(
    gaussians: Gaussians,
    views: Views | PackedViews,
    config: OptimiseConfig | None = None,
    progress: Progress = lambda done: None,
    watch: Watch | None = None,
    transients: Bool[Tensor, "v h w"] | None = None,
    antialiased: bool = False,
) -> OptimiseResult:
    """Fit the Gaussians to the views by gradient descent.

    The result is deterministic, unless `config` limits the time.

    Args:
        gaussians: Scene in the frame of the views' cameras, on the device to render on.
        views: Views to fit; pixels whose `valid` is 0 are ignored.
        config: Steps and learning rates, used as they are; by default those of
            `OptimiseConfig().for_num_views(len(views))`.
        progress: Called with the completed fraction of the steps or the time; may raise
            StopEarly to end with the scene so far.
        watch: Called with the scene every few steps.
        transients: Pixels of the views that show something that passes by, at any resolution: they
            have no weight at first, and later only if the scene does not explain them.
        antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
    """
    config = config or OptimiseConfig().for_num_views(len(views))
    scene, losses = Parameters(gaussians, views.cameras, config, antialiased), []
    watched = -math.inf
    weights = None if transients is None else RobustWeights(transients)
    with torch_on_one_thread():
        for step, loss in take_steps(scene, views, config, progress, weights):
            losses.append(loss)
            is_due = step % WATCH_EVERY == 0 and time.monotonic() >= watched + WATCH_SECONDS
            if watch is not None and is_due:
                watch(scene.gaussians().detach())
                watched = time.monotonic()
    final = scene.gaussians().detach()
    corrected = None if scene.corrections is None else scene.corrections.cameras()
    exposures = scene.exposures().detach()
    return OptimiseResult(final, exposures, len(losses), tuple(losses), corrected)


def take_steps(
    scene: Parameters,
    views: Views | PackedViews,
    config: OptimiseConfig,
    progress: Progress,
    weights: RobustWeights | None = None,
) -> Iterator[tuple[int, float]]:
    """Take steps up to the limit of steps or time, and yield each one's index (from 1) and loss."""
    started, count = time.monotonic(), min(config.views_per_step, len(views))
    order: list[int] = []
    # Random, since neighbours of a sequence say the same; each view comes as often as the others.
    generator = torch.Generator().manual_seed(0)
    settled = False
    has_haze = config.haze_radius > 0 and len(views) >= POLICY.min_views_haze
    for step in range(1, config.steps + 1):
        done = (step - 1) / config.steps
        if config.seconds is not None:
            done = max(done, (time.monotonic() - started) / max(config.seconds, 1e-9))
        if done >= 1:
            return
        try:
            progress(done)
        except StopEarly:
            return
        while len(order) < count:
            order += torch.randperm(len(views), generator=generator).tolist()
        chosen, order = order[:count], order[count:]
        if done >= SETTLED_FRACTION and not settled:
            scene.drop_small_corrections()
            settled = True
        if done >= HAZE_FRACTION and has_haze:
            scene.hide_haze(views.cameras, config.haze_radius)
            has_haze = False
        if weights is not None:
            weights.is_learning = done >= WARM_UP_FRACTION
        factors = _rate_factors(step - 1, done, config.usual_steps, len(views))
        yield step, scene.step(views, chosen, factors, weights)
    progress(1.0)


def _rate_factors(steps: int, done: float, usual_steps: int | None, num_views: int) -> RateFactors:
    """Return the factors of the learning rates after some steps.

    Exposures would take over what is for the colours in many (see `OptimiseConfig.lr_exposure`).

    Args:
        steps: Number of steps taken.
        done: Fraction of the run that they are.
        usual_steps: See OptimiseConfig.
        num_views: Number of views.
    """
    if usual_steps is None or steps == 0:
        return RateFactors(_decay(done), 1.0, _decay(done))
    used = steps / max(usual_steps, 1)
    positions = POLICY.long_run_rate(used / done, num_views)
    return RateFactors(_decay(done), positions, _decay(max(done, used)))


def _decay(done: float) -> float:
    """Return the factor of learning rates, which falls from 1 to 0 with a cosine."""
    return 0.5 + 0.5 * math.cos(math.pi * min(done, 1.0))
