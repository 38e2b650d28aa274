"""Settings of how scenes are displayed, and the arrays that viser renders."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from render import Cameras, Gaussians
from viewer.coloring import Coloring, gaussian_colors
from viewer.min_size_filter import filter_small
from viewer.normalisation import BROWSER_RADIUS, SceneNormalisation
from viewer.scene import ViewerScene

Primitive = Literal["splats", "points"]
PRIMITIVES: tuple[Primitive, ...] = ("splats", "points")
# Standard deviation of a point in the image (px).
POINT_PX = 0.8
# The number of Gaussians that a browser renders smoothly on a laptop's graphics.
DEFAULT_MAX_SPLATS = 1_000_000


@dataclass(frozen=True)
class DisplaySettings:
    """What the display panel controls."""

    coloring: Coloring = "colour"
    primitive: Primitive = "splats"
    use_sh: bool = True
    min_opacity: float = 0.0
    max_size: float = math.inf
    """Largest scale of a Gaussian to display, as a fraction of the scene's radius."""
    background: tuple[int, int, int] = (0, 0, 0)
    max_splats: int = DEFAULT_MAX_SPLATS
    """Maximum number of Gaussians per scene to send; the most important ones are displayed."""

    def depends_on_view(self, sh_degree: int) -> bool:
        """Return whether colours change as the camera moves."""
        if self.coloring == "colour":
            return self.use_sh and sh_degree > 0
        return self.coloring in ("depth", "normals")


@dataclass(frozen=True)
class SplatArrays:
    """Arguments of viser's `add_gaussian_splats`, in browser coordinates."""

    centers: np.ndarray
    covariances: np.ndarray
    rgbs: np.ndarray
    opacities: np.ndarray

    def as_arguments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the arrays in viser's order."""
        return self.centers, self.covariances, self.rgbs, self.opacities


def visible_mask(
    gaussians: Gaussians, settings: DisplaySettings, normalisation: SceneNormalisation
) -> Bool[Tensor, " n"]:
    """Return which Gaussians pass the thresholds on opacity and size."""
    passes = gaussians.opacities >= settings.min_opacity
    if settings.max_size < math.inf:
        longest = gaussians.scales.amax(-1) * normalisation.scale
        passes = passes & (longest <= settings.max_size * BROWSER_RADIUS)
    return passes


def visible_gaussians(
    scene: ViewerScene, settings: DisplaySettings, normalisation: SceneNormalisation
) -> Gaussians:
    """Return the Gaussians to save and render: edits and thresholds apply, `max_splats` not."""
    state = scene.state
    mask = visible_mask(state.gaussians, settings, normalisation)
    return state.gaussians[state.kept & mask]


def splat_arrays(
    scene: ViewerScene,
    settings: DisplaySettings,
    camera: Cameras,
    normalisation: SceneNormalisation,
) -> SplatArrays:
    """Prepare a scene for one camera: colours and minimum sizes depend on it."""
    state = scene.state
    mask = visible_mask(state.gaussians, settings, normalisation)
    index = state.select_indices(mask, settings.max_splats)
    selected = state.gaussians[index]
    if settings.coloring == "contribution":
        weight = scene.contribution(state.gaussians)[index]
    else:
        weight = state.weight[index]
    rgbs = gaussian_colors(selected, camera, settings.coloring, settings.use_sh, weight)
    if settings.primitive == "points":
        viewmat = camera.viewmats[0]
        depth = (selected.means @ viewmat[2, :3] + viewmat[2, 3]).abs()
        sigma = POINT_PX * depth / camera.Ks[0, 1, 1]
        covars = sigma.square()[:, None, None] * torch.eye(3)
        opacities = torch.ones(len(selected))
    else:
        covars, opacities = filter_small(selected, camera)
    return SplatArrays(
        centers=normalisation.to_browser(selected.means),
        covariances=(covars * normalisation.scale**2).numpy().astype(np.float32),
        rgbs=rgbs.numpy().astype(np.float32),
        opacities=opacities[:, None].numpy().astype(np.float32),
    )
