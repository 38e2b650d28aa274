"""The first view of a scene."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.guess import default_camera
from render.paths import focus_point
from viewer.normalisation import SceneNormalisation

# The start view is farther from the scene than its photo by this fraction of the distance, so that
# the frustum of the photo's camera is in view.
EXTRA_DISTANCE = 0.2


@dataclass(frozen=True)
class StartView:
    """The first view, in browser coordinates."""

    position: np.ndarray
    look_at: np.ndarray
    up: np.ndarray
    fov: float
    """Vertical field of view (radians)."""
    camera: int | None
    """Index of the camera that the view stands behind; None if there are no cameras."""

    @staticmethod
    def of(
        gaussians: Gaussians,
        cameras: Cameras | None,
        normalisation: SceneNormalisation,
        start: Cameras | None = None,
    ) -> "StartView":
        """Start a little behind the camera that sees most of the scene, with the same focus.

        Args:
            gaussians: The scene.
            cameras: Its cameras, if they are known.
            normalisation: The frame of the browser.
            start: Camera to start from without `cameras`; None guesses one.
        """
        known = cameras or start or default_camera(gaussians, 768, 512)
        best = _best_camera(gaussians, known)
        first = known[[best]]
        focus = focus_point(gaussians, first)
        position = first.centers[0] + EXTRA_DISTANCE * (first.centers[0] - focus)
        return StartView(
            position=normalisation.to_browser(position),
            look_at=normalisation.to_browser(focus),
            up=up_direction(known).numpy(),
            fov=vertical_fov(first),
            camera=best if cameras is not None else None,
        )


def _best_camera(gaussians: Gaussians, cameras: Cameras) -> int:
    """Return the index of the camera with the most Gaussians in its image."""
    means = gaussians.means[:: max(1, len(gaussians) // 20_000)]
    pixels, depth = cameras.project(means)
    x, y = pixels.unbind(-1)
    inside = (depth > 0) & (x > 0) & (x < cameras.width) & (y > 0) & (y < cameras.height)
    return int(inside.sum(-1).argmax())


def vertical_fov(camera: Cameras) -> float:
    """Return the vertical field of view of the first camera (radians)."""
    return 2 * float(torch.atan(camera.height / 2 / camera.Ks[0, 1, 1]))


def up_direction(cameras: Cameras) -> Float[Tensor, "3"]:
    """Estimate the world's up direction: near the cameras' mean up, orthogonal to their x axes.

    Photos are often pitched but seldom rolled, so the x axes of their cameras are horizontal.
    """
    level, up = cameras.viewmats[:, 0, :3], -cameras.viewmats[:, 1, :3].mean(0)
    pull = 0.01 * len(cameras) * torch.eye(3).to(level)
    return torch.nn.functional.normalize(torch.linalg.solve(level.T @ level + pull, up), dim=0)
