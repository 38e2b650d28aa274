"""Cameras of USD: pinholes that look along -z with +y up; apertures stand for sizes in pixels."""

from typing import Any

import numpy as np
import torch

from recon.formats.y_up import OPENGL_FLIP, SIDE_PX, Flips, flip_axes
from recon.start_camera import checked_camera
from render import Cameras

# Layer data of a stage of recon with +y up whose axes are those of the scene.
AXES, AXES_KEPT = "recon:axes", "scene"
# Name of the camera to start from, as recon writes it.
START = "start"
# Horizontal aperture (tenths of a unit), of which only ratios matter: that of a full-frame sensor.
APERTURE = 36.0
# Nothing nearer or farther is rendered (units).
CLIPPING = (0.01, 1e6)
# Custom data of a camera with the size of its image (px), which USD does not have.
WIDTH, HEIGHT = "recon:width", "recon:height"


def write_camera(pxr: Any, stage: Any, path: str, camera: Cameras, flips: Flips) -> Any:
    """Define the prim of a camera of the world frame, and return it.

    Args:
        pxr: The library (see `load_usd`).
        stage: To write into.
        path: Of the prim.
        camera: One camera, float64.
        flips: Signs of the axes of the stage in those of the scene.
    """
    defined = pxr.UsdGeom.Camera.Define(stage, path)
    signs = np.append(flip_axes(flips), 1).astype(np.float64)
    # Zeros without a sign.
    matrix = signs[:, None] * camera.c2w[0].numpy() * OPENGL_FLIP + 0.0
    # Vectors of USD are rows.
    defined.AddTransformOp().Set(pxr.Gf.Matrix4d(matrix.T.tolist()))
    (fx, fy), (cx, cy) = camera.Ks[0].diagonal()[:2].tolist(), camera.Ks[0, :2, 2].tolist()
    focal = APERTURE * fx / camera.width
    defined.CreateFocalLengthAttr(focal)
    defined.CreateHorizontalApertureAttr(APERTURE)
    defined.CreateVerticalApertureAttr(focal / fy * camera.height)
    defined.CreateHorizontalApertureOffsetAttr(focal / fx * (camera.width / 2 - cx))
    defined.CreateVerticalApertureOffsetAttr(focal / fy * (cy - camera.height / 2))
    defined.CreateClippingRangeAttr(pxr.Gf.Vec2f(*CLIPPING))
    prim = defined.GetPrim()
    prim.SetCustomDataByKey(WIDTH, camera.width)
    prim.SetCustomDataByKey(HEIGHT, camera.height)
    return prim


def read_camera(prim: Any, matrix: np.ndarray, lens: Any) -> Cameras | None:
    """Return the camera of a prim; None if it is no perspective camera or invalid.

    Args:
        prim: A prim of the type Camera.
        matrix: World of the scene from the axes of USD at the camera, without scale.
        lens: Its `pxr.Gf.Camera`.
    """
    if lens.projection != lens.Perspective or not np.isfinite(matrix).all():
        return None
    focal, aperture = lens.focalLength, (lens.horizontalAperture, lens.verticalAperture)
    if not all(np.isfinite(v) and v > 0 for v in (focal, *aperture)):
        return None
    width, height = _size(prim, aperture[0] / aperture[1])
    fx, fy = focal / aperture[0] * width, focal / aperture[1] * height
    cx = width / 2 - lens.horizontalApertureOffset / focal * fx
    cy = height / 2 + lens.verticalApertureOffset / focal * fy
    return checked_camera(torch.from_numpy(matrix * OPENGL_FLIP), (fx, fy, cx, cy), width, height)


def _size(prim: Any, aspect: float) -> tuple[int, int]:
    """Return the size of the image (px), which only files of recon tell."""
    told = prim.GetCustomDataByKey(WIDTH), prim.GetCustomDataByKey(HEIGHT)
    if all(isinstance(side, int) and side > 0 for side in told):
        return told
    return max(1, round(SIDE_PX * min(aspect, 1))), max(1, round(SIDE_PX / max(aspect, 1)))
