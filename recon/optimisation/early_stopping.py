"""Early stopping: the number of steps after which a held-out view is best."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from recon.optimisation.config import OptimiseConfig
from recon.optimisation.loop import take_steps
from recon.optimisation.parameters import SETTINGS, Parameters
from recon.optimisation.view_count_policy import POLICY
from recon.types import Progress, Views
from render import Cameras, Gaussians, rasterize

# Pixels that the other views' Gaussians cover with at least this alpha count.
MIN_ALPHA = 0.5
# Steps after which the held-out view is evaluated, in addition to the first and the last.
EVALUATION_STEPS = tuple(8 * 2**i for i in range(10))
# Learning rates decay: if the held-out view is best after this fraction of the steps, it will be
# best at the end.
SUFFICIENT_FRACTION = 1 / 3
# Ratio of the last to the lowest error above which fewer steps are taken (0.3 dB).
MIN_IMPROVEMENT = 1.072
PruneFn = Callable[[Gaussians, Cameras], Gaussians]


def _keep_all(gaussians: Gaussians, cameras: Cameras) -> Gaussians:
    return gaussians


@dataclass(frozen=True)
class HeldOut:
    """A held-out view and the scene of the other views."""

    gaussians: Gaussians
    """Gaussians that were predicted from the other views."""
    train_views: Views
    """The other views."""
    target: Views
    """The held-out view."""
    covered: Bool[Tensor, "1 h w"]
    """Valid pixels of the held-out view that the scene covers."""

    @staticmethod
    def of(
        gaussians: Gaussians,
        source_view: Int[Tensor, "n"],
        views: Views,
        prune_fn: PruneFn = _keep_all,
    ) -> "HeldOut":
        """Leave out the view nearest the centre of all cameras: the others cover most of it."""
        centers = views.cameras.centers
        chosen = int((centers - centers.mean(0)).norm(dim=-1).argmin())
        others = [v for v in range(len(views)) if v != chosen]
        train_views, target = views[others], views[chosen : chosen + 1]
        scene = prune_fn(gaussians[source_view != chosen], train_views.cameras)
        alpha = rasterize(scene, target.cameras, settings=SETTINGS).alpha
        covered = (alpha[0] > MIN_ALPHA) & (target.valid[0] > 0)
        return HeldOut(scene, train_views, target, covered)

    def error(self, gaussians: Gaussians) -> float:
        """Compute the mean squared error over covered pixels, at the best exposure."""
        image = rasterize(gaussians, self.target.cameras, settings=SETTINGS).rgb[0]
        inside = self.covered[0]
        found, expected = image[:, inside], self.target.images[0][:, inside]
        exposure = (found * expected).sum(1) / found.square().sum(1).clamp_min(1e-9)
        return float((exposure[:, None] * found - expected).square().mean())


def select_num_steps(
    gaussians: Gaussians,
    source_view: Int[Tensor, "n"],
    views: Views,
    config: OptimiseConfig,
    progress: Progress = lambda done: None,
    prune_fn: PruneFn = _keep_all,
) -> int | None:
    """Find the number of steps after which a held-out view is best, in a trial optimisation.

    Args:
        gaussians: Predicted scene, with the Gaussians of all views.
        source_view: Index of the view that each Gaussian was predicted from. Those of the held-out
            view are left out, since they would reproduce it.
        views: All views.
        config: Configuration of the optimisation that follows.
        progress: Called with the completed fraction of the trial.
        prune_fn: Simplification of the scene that precedes the optimisation.

    Returns:
        The number of steps, or None if all steps are worth taking or there are too few views
        to tell.
    """
    if not POLICY.stops_early(len(views)) or config.steps == 0:
        return None
    held_out = HeldOut.of(gaussians, source_view, views, prune_fn)
    if not bool(held_out.covered.any()):
        return None
    scene = Parameters(held_out.gaussians, held_out.train_views.cameras, config)
    evaluations, step = [(0, held_out.error(held_out.gaussians))], 0
    for step, _ in take_steps(scene, held_out.train_views, config, progress):
        if step in EVALUATION_STEPS and step < config.steps:
            evaluations.append((step, held_out.error(scene.gaussians().detach())))
            least = min(error for _, error in evaluations)
            late = config.seconds is None and step >= SUFFICIENT_FRACTION * config.steps
            if late and evaluations[-1][1] == least:
                return None
    evaluations.append((step, held_out.error(scene.gaussians().detach())))
    best_step, error = min(evaluations, key=lambda evaluation: evaluation[1])
    return None if evaluations[-1][1] <= MIN_IMPROVEMENT * error else best_step
