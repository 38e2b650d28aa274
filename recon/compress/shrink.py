"""Fewer Gaussians that look the same: pruning, merging, and a short recovery."""

from dataclasses import replace

from recon.compress.looks import Looks
from recon.optimise import OptimiseConfig, optimise
from recon.simplify import SimplifyConfig, importance_order, simplify
from render import Gaussians

# Cells that Gaussians may meet in to become one (px): larger than when a scene is made.
CELLS_PX = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
# Pictures of the scene itself are right in every pixel: all may decide, exposures are one.
RECOVERY = OptimiseConfig(
    lr_scale=0.04, lr_quat=0.02, lr_mean=0.1, lr_exposure=0.0, require_agreement=False
)
# Adam steps as far when next to nothing is missing as when much is: its rates go with the root of
# the pictures' difference (RMS), and are those above where its square is this.
FULL_RATE_CHANGE = 2e-3
# Few Gaussians take more steps, in about the time that these take on the whole scene.
STEPS_WHOLE, MOST_STEPS = 64, 320


def shrink(scene: Gaussians, count: int, looks: Looks) -> Gaussians:
    """At most `count` Gaussians that look like the scene from where it is looked at."""
    if count >= len(scene):
        return scene
    cameras = looks.lessons.cameras
    config = SimplifyConfig(fraction=1 - count / len(scene), cluster_sizes_px=CELLS_PX)
    fewer = simplify(scene, cameras, config)
    # Where merging has nothing left to merge, the least important ones go.
    if len(fewer) > count:
        fewer = fewer[importance_order(fewer, cameras)[:count]]
    change = looks.change(fewer)
    if change == 0:
        return fewer
    recovery = RECOVERY.scale_lrs((change / FULL_RATE_CHANGE) ** 0.25)
    steps = min(round(STEPS_WHOLE * len(scene) / len(fewer)), MOST_STEPS)
    return optimise(fewer, looks.lessons, replace(recovery, steps=steps)).gaussians
