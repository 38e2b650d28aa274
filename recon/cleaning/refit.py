"""Refit: what is left of a cleaned scene takes over what photos saw in the removed Gaussians.

A floater that only one photo sees still explains some of its pixels, and so does what stood in for
a surface. A few steps of the test-time optimisation let the surfaces behind explain them, which
photos from elsewhere gain by as well.
"""

from dataclasses import replace

from recon.optimisation.config import OptimiseConfig
from recon.optimisation.loop import optimise
from recon.types import PackedViews, Progress, Views
from render import Gaussians

STEPS = 60


def refit(
    gaussians: Gaussians,
    views: Views | PackedViews,
    progress: Progress = lambda done: None,
    steps: int = STEPS,
) -> Gaussians:
    """Optimise a scene that was cleaned by the photos it was made from.

    Args:
        gaussians: The scene, not for rendering with the 2D filter of Mip-Splatting, at the scale of
            a room (see `recon.local_frame`).
        views: Its photos, with cameras in the frame of the scene.
        progress: Called with the completed fraction.
        steps: Number of steps, with two photos each.
    """
    config = replace(
        OptimiseConfig(steps=steps),
        # Haze is removed already, and the scene keeps its spherical harmonics.
        haze_radius=0.0,
    )
    return optimise(gaussians, views, config, progress).gaussians
