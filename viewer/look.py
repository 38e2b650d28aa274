"""How scenes are shown, and the arrays that viser takes."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from render import Cameras, Gaussians
from viewer.coloring import Coloring, colors_of
from viewer.scene import ShownScene
from viewer.space import SHOWN_RADIUS, Space
from viewer.survive import surviving

Shape = Literal["splats", "points"]
SHAPES: tuple[Shape, ...] = ("splats", "points")
# Standard deviation of a point in the picture (px).
POINT_PX = 0.8
# As many Gaussians as browsers turn smoothly on a laptop's graphics.
DEFAULT_LIMIT = 1_000_000


@dataclass(frozen=True)
class Look:
    """Settings of the panel."""

    coloring: Coloring = "colour"
    shape: Shape = "splats"
    use_sh: bool = True
    min_opacity: float = 0.0
    max_size: float = math.inf
    """Gaussians longer than this part of the scene are left out."""
    background: tuple[int, int, int] = (0, 0, 0)
    limit: int = DEFAULT_LIMIT
    """Most Gaussians of a scene; the most important ones are shown."""

    def follows_eye(self, sh_degree: int) -> bool:
        """Whether colours change as the camera moves."""
        if self.coloring == "colour":
            return self.use_sh and sh_degree > 0
        return self.coloring in ("depth", "normals")


@dataclass(frozen=True)
class Arrays:
    """What viser's add_gaussian_splats takes, in browser units."""

    centers: np.ndarray
    covariances: np.ndarray
    rgbs: np.ndarray
    opacities: np.ndarray

    def as_arguments(self) -> tuple[np.ndarray, ...]:
        """In viser's order."""
        return self.centers, self.covariances, self.rgbs, self.opacities


def passing(gaussians: Gaussians, look: Look, space: Space) -> Bool[Tensor, "n"]:
    """Those within the thresholds."""
    passes = gaussians.opacities >= look.min_opacity
    if look.max_size < math.inf:
        longest = gaussians.scales.amax(-1) * space.scale
        passes = passes & (longest <= look.max_size * SHOWN_RADIUS)
    return passes


def visible_part(scene: ShownScene, look: Look, space: Space) -> Gaussians:
    """What is exported and rendered: edits and thresholds count, the limit does not."""
    state = scene.state
    return state.gaussians[state.kept & passing(state.gaussians, look, space)]


def arrays_of(scene: ShownScene, look: Look, eye: Cameras, space: Space) -> Arrays:
    """The scene for one eye."""
    state = scene.state
    index = state.chosen(passing(state.gaussians, look, space), look.limit)
    shown = state.gaussians[index]
    measured = look.coloring == "contribution"
    weight = (scene.contribution(state.gaussians) if measured else state.weight)[index]
    rgbs = colors_of(shown, eye, look.coloring, look.use_sh, weight)
    if look.shape == "points":
        viewmat = eye.viewmats[0]
        depth = (shown.means @ viewmat[2, :3] + viewmat[2, 3]).abs()
        sigma = POINT_PX * depth / eye.Ks[0, 1, 1]
        covars = sigma.square()[:, None, None] * torch.eye(3)
        opacities = torch.ones(len(shown))
    else:
        covars, opacities = surviving(shown, eye)
    return Arrays(
        centers=space.shown(shown.means),
        covariances=(covars * space.scale**2).numpy().astype(np.float32),
        rgbs=rgbs.numpy().astype(np.float32),
        opacities=opacities[:, None].numpy().astype(np.float32),
    )
