"""Shapes that select points: a box, a sphere, and what a polygon on the screen covers."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from render import Cameras
from render.quaternions import quats_to_rotmats

# Side of the mask that a polygon is drawn into (px).
MASK_PX = 2048


def in_box(
    points: Float[Tensor, "n 3"],
    position: Float[Tensor, "3"],
    wxyz: np.ndarray,
    size: Float[Tensor, "3"],
) -> Bool[Tensor, " n"]:
    """Return which points lie in a rotated box.

    Args:
        points: In the world.
        position: Middle of the box.
        wxyz: Its rotation.
        size: Lengths of its sides.
    """
    rotmat = quats_to_rotmats(torch.as_tensor(np.asarray(wxyz))[None])[0].to(points)
    return (((points - position) @ rotmat).abs() <= size / 2).all(-1)


def in_sphere(
    points: Float[Tensor, "n 3"], position: Float[Tensor, "3"], radius: float
) -> Bool[Tensor, " n"]:
    """Return which points lie in a sphere."""
    distance: Tensor = (points - position).norm(dim=-1)
    return distance <= radius


def in_polygon(
    points: Float[Tensor, "n 3"], camera: Cameras, corners: Float[np.ndarray, "k 2"]
) -> Bool[Tensor, " n"]:
    """Return which points a camera sees inside a polygon, at any depth.

    Args:
        points: In the world.
        camera: One camera, with the axis v.
        corners: Of the polygon, as fractions of width and height; at least three.
    """
    mask = np.zeros((MASK_PX, MASK_PX), np.uint8)
    cv2.fillPoly(mask, [np.rint(corners * MASK_PX - 0.5).astype(np.int32)], 1)
    pixels, depth = (value[0] for value in camera.project(points))
    seen = camera.contains(pixels, depth)
    size = pixels.new_tensor([camera.width, camera.height])
    cells = (pixels / size * MASK_PX).nan_to_num(0).clamp(0, MASK_PX - 1).long()
    covered: Tensor = torch.from_numpy(mask).bool()[cells[:, 1], cells[:, 0]]
    return seen & covered
