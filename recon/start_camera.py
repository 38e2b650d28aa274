"""The camera from which to look at a scene first, which scene files keep.

It is the camera of a photo, upright as the photo is shown. Without it, a camera has to be guessed
from the Gaussians (`render.guess`), and nothing tells where up is.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from recon.precision import Origin
from render import Cameras
from render.cameras import camera_centers

# What the comment of a PLY begins with.
COMMENT = "recon start camera:"
# Largest size of its image that is believed (px), and tolerance of its rotation.
MAX_SIDE_PX, ROTATION_TOLERANCE = 1_000_000, 1e-3


def world_start(camera: Cameras, origin: Origin) -> Cameras:
    """Express a camera that is relative to an origin in the world frame, in float64 on the CPU."""
    return _moved(camera.to("cpu"), origin, 1.0)


def local_start(start: Cameras, origin: Origin) -> Cameras:
    """Express a camera of the world frame relative to an origin, in float32."""
    return _moved(start, origin, -1.0).to(torch.float32)


def fitted(camera: Cameras, width: int, height: int) -> Cameras:
    """Adapt a camera to an image of another size that shows at least the same."""
    scale = min(width / camera.width, height / camera.height)
    side = max(1, round(scale * camera.width)), max(1, round(scale * camera.height))
    left, top = (width - side[0]) // 2, (height - side[1]) // 2
    return camera.resized(*side).cropped(-left, -top, width, height)


def rotated_upright(camera: Cameras, x: int, y: int) -> Cameras:
    """Rotate the image of a camera in quarters so that a direction (x, y) in it points down."""
    rotation = camera.viewmats.new_tensor([[y, -x, 0, 0], [x, y, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    (fx, fy), (cx, cy) = camera.Ks[0].diagonal()[:2].tolist(), camera.Ks[0, :2, 2].tolist()
    right, below = cx - camera.width / 2, cy - camera.height / 2
    width, height = (camera.width, camera.height) if x == 0 else (camera.height, camera.width)
    return Cameras.from_focal(
        rotation @ camera.viewmats,
        (fx, fy) if x == 0 else (fy, fx),
        width,
        height,
        (width / 2 + y * right - x * below, height / 2 + x * right + y * below),
    )


def _moved(camera: Cameras, origin: Origin, sign: float) -> Cameras:
    viewmats = camera.viewmats.double().clone()
    centers = camera_centers(viewmats) + sign * torch.tensor(origin, dtype=torch.float64)
    viewmats[..., :3, 3] = -(viewmats[..., :3, :3] @ centers[..., None])[..., 0]
    return replace(camera, viewmats=viewmats)


def to_json(start: Cameras) -> dict[str, Any]:
    """Describe a camera for a file: world from camera (OpenCV axes), and intrinsics in pixels."""
    K = start.Ks[0].tolist()
    return {
        "width": start.width,
        "height": start.height,
        "fx_fy_cx_cy": [round(v, 3) for v in (K[0][0], K[1][1], K[0][2], K[1][2])],
        "c2w": start.c2w[0, :3].tolist(),
    }


def from_json(value: Any) -> Cameras | None:
    """Read what `to_json` wrote; None if it is anything else."""
    try:
        rows = torch.tensor(value["c2w"], dtype=torch.float64)
        c2w = torch.cat([rows, rows.new_tensor([[0, 0, 0, 1]])])
        fx, fy, cx, cy = (float(v) for v in value["fx_fy_cx_cy"])
        return checked_camera(c2w, (fx, fy, cx, cy), int(value["width"]), int(value["height"]))
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError):
        return None


def checked_camera(
    c2w: Float[Tensor, "4 4"],
    intrinsics: tuple[float, float, float, float],
    width: int,
    height: int,
) -> Cameras | None:
    """Return one camera of a file; None if a camera cannot be like that.

    Args:
        c2w: World from camera, OpenCV axes.
        intrinsics: Focal lengths and principal point (fx, fy, cx, cy; px).
        width: Of the image (px).
        height: Of the image (px).
    """
    fx, fy, cx, cy = intrinsics
    K = c2w.new_tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if not (c2w.isfinite().all() and K.isfinite().all() and K.abs().max() < MAX_SIDE_PX):
        return None
    rotmat = c2w[:3, :3]
    error = (rotmat @ rotmat.T - torch.eye(3)).abs().max()
    is_pose = error < ROTATION_TOLERANCE and torch.linalg.det(rotmat) > 0
    sides = width, height
    if not is_pose or min(fx, fy) <= 0 or min(sides) < 1 or max(sides) > MAX_SIDE_PX:
        return None
    return Cameras.from_c2w(c2w[None], K[None], width, height)


def to_comment(start: Cameras) -> str:
    """Return the text of a comment, such as in the header of a PLY."""
    return f"{COMMENT} {json.dumps(to_json(start))}"


def from_comments(comments: Sequence[str]) -> Cameras | None:
    """Return the camera of the last comment that `to_comment` wrote; None without any."""
    for comment in reversed(comments):
        if comment.startswith(COMMENT):
            try:
                return from_json(json.loads(comment.removeprefix(COMMENT)))
            except (ValueError, RecursionError):
                return None
    return None
