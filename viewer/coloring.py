"""Colours of Gaussians: their own, or a colour map of depth, normals or contribution."""

from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians
from render.quaternions import quats_to_rotmats
from render.sh import C0, sh_to_colors

Coloring = Literal["colour", "depth", "normals", "contribution"]
COLORINGS: tuple[Coloring, ...] = ("colour", "depth", "normals", "contribution")

# Contributions below this have the same colour (px).
MIN_CONTRIBUTION_PX = 0.01


def gaussian_colors(
    gaussians: Gaussians,
    camera: Cameras,
    coloring: Coloring,
    use_sh: bool,
    weight: Float[Tensor, " n"],
) -> Float[Tensor, "n 3"]:
    """Return colours in [0, 1] as seen from a camera.

    Args:
        gaussians: the Gaussians to colour.
        camera: one view; its position decides view-dependent colours, depth and normals.
        coloring: what the colours show.
        use_sh: whether "colour" evaluates spherical harmonics of degree 1 and up.
        weight: values that "contribution" shows (px).
    """
    if coloring == "depth":
        viewmat = camera.viewmats[0]
        depth = gaussians.means @ viewmat[2, :3] + viewmat[2, 3]
        return turbo_colors(1 / depth.clamp_min(1e-9))
    if coloring == "normals":
        return _normal_colors(gaussians, camera)
    if coloring == "contribution":
        return turbo_colors(weight.clamp_min(MIN_CONTRIBUTION_PX).log())
    if not use_sh or gaussians.sh_degree == 0:
        return (0.5 + C0 * gaussians.sh[:, 0]).clamp(0, 1)
    dirs = torch.nn.functional.normalize(gaussians.means - camera.centers[0], dim=-1)
    return sh_to_colors(gaussians.sh, dirs).clamp(0, 1)


def turbo_colors(values: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Apply the Turbo colour map (blue low, red high) from the 2nd to the 98th percentile."""
    if len(values) == 0:
        return values.new_zeros(0, 3)
    part = values[:: max(1, len(values) // 100_000)]
    low, high = torch.quantile(part, part.new_tensor([0.02, 0.98]))
    steps = (255 * (values - low) / (high - low).clamp_min(1e-12)).clamp(0, 255)
    levels = steps.round().to(torch.uint8).numpy()[:, None]
    table = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return torch.from_numpy(np.ascontiguousarray(table)).float() / 255


def _normal_colors(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "n 3"]:
    """Colour by the shortest axis, towards the camera, in its frame: red right, green up."""
    axes = quats_to_rotmats(gaussians.quats)
    shortest = gaussians.scales.argmin(-1)
    normal = axes[torch.arange(len(axes)), :, shortest]
    away = gaussians.means - camera.centers[0]
    normal = torch.where((normal * away).sum(-1, keepdim=True) > 0, -normal, normal)
    local = normal @ camera.viewmats[0, :3, :3].T
    return (0.5 + 0.5 * local * local.new_tensor([1.0, -1.0, -1.0])).clamp(0, 1)
