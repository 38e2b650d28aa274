"""Axes of formats in which +y is up (glTF, USD), and the transforms of their nodes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from recon.errors import InputError
from render import Cameras, Gaussians, Sim3
from render.sh import C0
from render.srgb import display_slope, from_linear

# These formats have +y up and +z ahead; scenes have +y down and +z ahead: a rotation by 180 degrees
# about z.
Flips = dict[str, int]
FLIPS: Flips = {"x": -1, "y": -1, "z": 1}
KEPT: Flips = {"x": 1, "y": 1, "z": 1}
# Signs of the columns of a camera-to-world matrix: OpenGL cameras, as those of these formats, look
# along -z with +y up, recon's (OpenCV) along +z with +y down.
OPENGL_FLIP = np.array([1.0, -1.0, -1.0, 1.0])
# Component of the mean up direction of cameras from which it tells the up axis of the scene.
MIN_UP = 0.75
# Axis of a scene that points up -> rotation of glTF's world, where it is +y, from the scene.
Up = Literal["-y", "+y", "+z"]
GLTF_FROM_SCENE: dict[Up, np.ndarray] = {
    "-y": np.diag([-1.0, -1.0, 1.0]),
    "+y": np.eye(3),
    "+z": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}
# Longer side of the image of a camera whose size a file does not tell (px).
SIDE_PX = 1000


def up_axis(cameras: Iterable[Cameras]) -> Up:
    """Return the axis of a scene that points up.

    It is +z or +y if the up directions of the cameras have it on average; else +y is down, as in
    most scenes of Gaussians.

    Args:
        cameras: One camera each, such as those of the photos; none are needed.
    """
    ups = [-camera.flatten().c2w[0, :3, 1].double().cpu().numpy() for camera in cameras]
    _, y, z = np.sum(ups, 0) / len(ups) if ups else np.zeros(3)
    if max(y, z) > MIN_UP:
        return "+z" if z > y else "+y"
    return "-y"


def flip_axes(flips: Flips = FLIPS) -> np.ndarray:
    """Return the signs of the axes x, y and z, for positions."""
    return np.array([flips[axis] for axis in "xyz"], np.float32)


def flip_quats(flips: Flips = FLIPS) -> np.ndarray:
    """Return the signs of the components of quaternions xyzw."""
    x, y, z = flip_axes(flips)
    return np.array([y * z, x * z, x * y, 1], np.float32)


def in_scene_axes(path: Path, world: np.ndarray) -> np.ndarray:
    """Convert the matrix of a node (world from local, columns) to the axes of a scene."""
    if not np.isfinite(world).all():
        raise InputError(f"{path}: the transform of a node is not finite")
    flip = np.append(flip_axes(), 1).astype(np.float64)
    return np.asarray(flip[:, None] * world * flip)


def transformed(path: Path, block: Gaussians, matrix: np.ndarray) -> Gaussians:
    """Apply the scale and the rotation of a node."""
    if (matrix[:3, :3] == np.eye(3)).all():
        return block
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    rotation = matrix[:3, :3] / scale if scale > 0 else np.zeros((3, 3))
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
        raise InputError(f"{path}: a node mirrors or shears its Gaussians, which recon cannot read")
    values = (torch.tensor(x, dtype=torch.float32) for x in (scale, rotation, np.zeros(3)))
    return block.transformed(Sim3(*values))


def sh_from_linear(sh: np.ndarray) -> np.ndarray:
    """Convert SH of linear BT.709 colours to display sRGB.

    The mean colour of each Gaussian is converted exactly, what depends on the direction by the
    derivative of the transfer function there.
    """
    linear = 0.5 + C0 * sh[:, :1].astype(np.float64)
    display = from_linear(linear)
    converted = np.concatenate([(display - 0.5) / C0, sh[:, 1:] * display_slope(linear)], 1)
    return np.asarray(converted.astype(np.float32))
