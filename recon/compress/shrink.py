"""Fewer Gaussians that look the same: pruning, merging, and a short recovery."""

from dataclasses import replace

from recon.compress.looks import Looks
from recon.optimise import RefineConfig, refine
from recon.simplify.importance import importance_order
from recon.simplify.prune import PruneConfig, prune
from render import Gaussians

# Cells that Gaussians may meet in to become one (px): larger than when a scene is made.
CELLS_PX = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
# Pictures of the scene itself are right in every pixel: all may decide, exposures are one.
RECOVERY = RefineConfig(scale=0.04, quat=0.02, mean=0.1, gain=0.0, unanimous=False)
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
    config = PruneConfig(share=1 - count / len(scene), cells_px=CELLS_PX)
    fewer = prune(scene, cameras, config)
    # Where merging has nothing left to merge, the least important ones go.
    if len(fewer) > count:
        fewer = fewer.select(importance_order(fewer, cameras)[:count])
    change = looks.change(fewer)
    if change == 0:
        return fewer
    recovery = RECOVERY.times((change / FULL_RATE_CHANGE) ** 0.25)
    steps = min(round(STEPS_WHOLE * len(scene) / len(fewer)), MOST_STEPS)
    return refine(fewer, looks.lessons, replace(recovery, steps=steps)).gaussians
