"""The transform from the scene's world frame to the browser's: ten units large, at the origin.

viser keeps covariances as float16, and its camera controls are tuned for scenes of the size of a
room; scenes in millimetres or kilometres would suffer from both.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.quaternions import quats_to_rotmats, rotmats_to_quats

# Radius of every scene in the browser (browser units).
BROWSER_RADIUS = 10.0


@dataclass(frozen=True)
class SceneNormalisation:
    """Translation and scale from world to browser coordinates; the axes stay the same."""

    center: Float[Tensor, "3"]
    """World point at the browser's origin."""
    scale: float
    """Browser units per world unit."""

    @staticmethod
    def of(gaussians: Gaussians) -> "SceneNormalisation":
        """Centre on the median of the means and scale so that 90 % of them fit."""
        if len(gaussians) == 0:
            return SceneNormalisation(torch.zeros(3), 1.0)
        part = gaussians.means[:: max(1, len(gaussians) // 100_000)]
        center = part.median(0).values
        radius = float((part - center).norm(dim=1).quantile(0.9))
        return SceneNormalisation(center, BROWSER_RADIUS / max(radius, 1e-9))

    def to_browser(self, points: Float[Tensor, "*b 3"]) -> np.ndarray:
        """Transform world points to browser coordinates."""
        return ((points - self.center) * self.scale).numpy().astype(np.float32)

    def to_world(self, points: np.ndarray) -> Float[Tensor, "*b 3"]:
        """Transform browser points to world coordinates."""
        return torch.as_tensor(np.asarray(points), dtype=torch.float32) / self.scale + self.center

    def camera(
        self, wxyz: np.ndarray, position: np.ndarray, fov: float, width: int, height: int
    ) -> Cameras:
        """Convert a browser camera to world coordinates.

        Args:
            wxyz: rotation, camera to browser.
            position: browser coordinates.
            fov: vertical field of view (radians).
            width: image width (px).
            height: image height (px).
        """
        quat = torch.as_tensor(np.asarray(wxyz), dtype=torch.float64)
        rotmat = quats_to_rotmats(torch.nn.functional.normalize(quat, dim=0)[None])[0].float()
        viewmat = torch.eye(4)
        viewmat[:3, :3] = rotmat.T
        viewmat[:3, 3] = -rotmat.T @ self.to_world(position)
        return Cameras.from_fov(viewmat[None], float(np.rad2deg(fov)), width, height)

    def look_at_camera(
        self, position: np.ndarray, target: np.ndarray, up: np.ndarray, fov: float, height: int
    ) -> Cameras:
        """Build a camera with square images that looks from one browser point at another."""
        ahead = (target - position) / max(float(np.linalg.norm(target - position)), 1e-9)
        right = np.cross(ahead, up)
        right /= max(float(np.linalg.norm(right)), 1e-9)
        axes = torch.from_numpy(np.stack([right, np.cross(ahead, right), ahead], 1))
        quat = rotmats_to_quats(axes[None])[0].numpy()
        return self.camera(quat, position, fov, height, height)
