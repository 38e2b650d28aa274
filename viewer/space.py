"""The scene as the browser has it: ten units large, around the origin.

viser keeps covariances as float16 and its controls expect rooms, not grains of sand or cities.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.guess import default_camera
from render.paths import focus_point
from render.quaternions import quats_to_rotmats, rotmats_to_quats

SHOWN_RADIUS = 10.0
# The start view is so much farther away than the first photo, so that its frustum is in view.
START_BACK = 0.2


@dataclass(frozen=True)
class Space:
    """Where the browser's origin lies, and how it is scaled; axes are those of the scene."""

    center: Float[Tensor, "3"]
    scale: float
    """Browser units of a world unit."""

    @staticmethod
    def of(gaussians: Gaussians) -> "Space":
        """Around the median of the means; 90 % of them fit."""
        if len(gaussians) == 0:
            return Space(torch.zeros(3), 1.0)
        part = gaussians.means[:: max(1, len(gaussians) // 100_000)]
        center = part.median(0).values
        radius = float((part - center).norm(dim=1).quantile(0.9))
        return Space(center, SHOWN_RADIUS / max(radius, 1e-9))

    def shown(self, points: Float[Tensor, "*b 3"]) -> np.ndarray:
        """World to browser."""
        return ((points - self.center) * self.scale).numpy().astype(np.float32)

    def world(self, points: np.ndarray) -> Float[Tensor, "*b 3"]:
        """Browser to world."""
        return torch.as_tensor(np.asarray(points), dtype=torch.float32) / self.scale + self.center

    def eye(
        self, wxyz: np.ndarray, position: np.ndarray, fov: float, width: int, height: int
    ) -> Cameras:
        """A camera of the browser (vertical field of view in radians) as one of ours."""
        quat = torch.as_tensor(np.asarray(wxyz), dtype=torch.float64)
        rotmat = quats_to_rotmats(torch.nn.functional.normalize(quat, dim=0)[None])[0].float()
        viewmat = torch.eye(4)
        viewmat[:3, :3] = rotmat.T
        viewmat[:3, 3] = -rotmat.T @ self.world(position)
        focal = 0.5 * height / float(np.tan(0.5 * fov))
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return Cameras(viewmat[None], K[None], width, height)

    def looking(
        self, position: np.ndarray, target: np.ndarray, up: np.ndarray, fov: float, height: int
    ) -> Cameras:
        """A square picture of a browser camera that looks from one point at another."""
        ahead = (target - position) / max(float(np.linalg.norm(target - position)), 1e-9)
        right = np.cross(ahead, up)
        right /= max(float(np.linalg.norm(right)), 1e-9)
        axes = torch.from_numpy(np.stack([right, np.cross(ahead, right), ahead], 1))
        quat = rotmats_to_quats(axes[None])[0].numpy()
        return self.eye(quat, position, fov, height, height)


@dataclass(frozen=True)
class Start:
    """The first view, in browser units."""

    position: np.ndarray
    look_at: np.ndarray
    up: np.ndarray
    fov: float
    """Vertical (radians)."""
    camera: int | None
    """Photo that it is a little behind of."""

    @staticmethod
    def of(gaussians: Gaussians, cameras: Cameras | None, space: Space) -> "Start":
        """A little behind the photo that sees most of the scene, looking at what it looks at."""
        known = cameras if cameras is not None else default_camera(gaussians, 768, 512)
        best = _best_view(gaussians, known)
        first = known[[best]]
        focus = focus_point(gaussians, first)
        place = first.centers[0] + START_BACK * (first.centers[0] - focus)
        return Start(
            position=space.shown(place),
            look_at=space.shown(focus),
            up=up_direction(known).numpy(),
            fov=vertical_fov(first),
            camera=best if cameras is not None else None,
        )


def _best_view(gaussians: Gaussians, cameras: Cameras) -> int:
    """Number of the camera that has most Gaussians in its picture."""
    means = gaussians.means[:: max(1, len(gaussians) // 20_000)]
    pixels, depth = cameras.project(means)
    x, y = pixels.unbind(-1)
    inside = (depth > 0) & (x > 0) & (x < cameras.width) & (y > 0) & (y < cameras.height)
    return int(inside.sum(-1).argmax())


def vertical_fov(camera: Cameras) -> float:
    """Of its first view (radians)."""
    return 2 * float(torch.atan(camera.height / 2 / camera.Ks[0, 1, 1]))


def up_direction(cameras: Cameras) -> Float[Tensor, "3"]:
    """The direction that is nearest to the photos' up and square to their horizontals.

    Photos look down on things, but are seldom rolled: their x axes are level.
    """
    level, up = cameras.viewmats[:, 0, :3], -cameras.viewmats[:, 1, :3].mean(0)
    pull = 0.01 * len(cameras) * torch.eye(3).to(level)
    return torch.nn.functional.normalize(torch.linalg.solve(level.T @ level + pull, up), dim=0)
