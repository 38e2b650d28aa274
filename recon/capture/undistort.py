"""Undistortion of photos into those of a pinhole camera."""

import cv2
import numpy as np
from jaxtyping import Bool, Float

from recon.capture.types import DistortionModel, FrameCamera

# Samples of the radial distortion, to find where it stops being monotonic.
RADIUS_SAMPLES = 4096
# Long side of the image at which the effect of a distortion is measured (px).
PROBE_PX = 128


def undistort(
    camera: FrameCamera,
    K: Float[np.ndarray, "3 3"],
    colors: Float[np.ndarray, "h w 3"],
    mask: Float[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Remap an image and its mask to a pinhole camera.

    Args:
        camera: The distorted camera.
        K: Intrinsics of both cameras, in pixels of the image.
        colors: Image, which is interpolated linearly.
        mask: Its mask.

    Returns:
        The remapped image and mask, and the validity: 1 where a pixel comes from inside the image
        and from the invertible part of the distortion, else 0.
    """
    x, y, inside, unfolded = _maps(camera, K, (mask.shape[1], mask.shape[0]))
    inside &= unfolded
    # OpenCV's cubic kernel is sharper but shifts what it samples by up to 0.05 px.
    colors = cv2.remap(colors, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colors, mask, inside.astype(np.float32)


def straight_rays(camera: FrameCamera, px: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    """Return the directions (camera frame, z = 1) that points of a distorted photo are seen in."""
    points, K = px[:, None].astype(np.float64), camera.K.double().numpy()
    coefficients = np.array(camera.coefficients, np.float64)
    if camera.distortion == "fisheye":
        straight = cv2.fisheye.undistortPoints(points, K, coefficients)
    else:
        straight = cv2.undistortPoints(points, K, coefficients if len(coefficients) else None)
    return np.concatenate([straight.reshape(-1, 2), np.ones((len(px), 1))], 1)


def usable_fractions(camera: FrameCamera) -> tuple[float, float]:
    """Return which fraction of a pinhole image has pixels, and which fraction is beyond a fold.

    Beyond a fold, the radial distortion decreases again with the radius, so that it says nothing.
    """
    scale = PROBE_PX / max(camera.width, camera.height)
    size = max(round(camera.width * scale), 1), max(round(camera.height * scale), 1)
    factors = np.array([size[0] / camera.width, size[1] / camera.height, 1.0])
    _, _, inside, unfolded = _maps(camera, camera.K.numpy() * factors[:, None], size)
    return float((inside & unfolded).mean()), float((~unfolded).mean())


def _maps(
    camera: FrameCamera, K: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> tuple[
    Float[np.ndarray, "h w"],
    Float[np.ndarray, "h w"],
    Bool[np.ndarray, "h w"],
    Bool[np.ndarray, "h w"],
]:
    """Return x and y of the source of each pixel, whether it is in the image, and not folded."""
    # OpenCV counts pixel centres from 0, recon from 0.5.
    opencv_K = K.copy()
    opencv_K[:2, 2] -= 0.5
    coefficients = np.array(camera.coefficients, dtype=np.float64)
    init = (
        cv2.fisheye.initUndistortRectifyMap
        if camera.distortion == "fisheye"
        else cv2.initUndistortRectifyMap
    )
    x, y = init(opencv_K, coefficients, np.eye(3), opencv_K, size, cv2.CV_32FC1)
    inside = (x >= -0.5) & (x <= size[0] - 0.5) & (y >= -0.5) & (y <= size[1] - 0.5)
    return x, y, inside, _unfolded(camera.distortion, coefficients, K, size[::-1])


def _unfolded(
    model: DistortionModel,
    coefficients: Float[np.ndarray, " c"],
    K: Float[np.ndarray, "3 3"],
    shape: tuple[int, ...],
) -> Bool[np.ndarray, "h w"]:
    """Return where the radial distortion is still monotonic.

    The polynomial is fitted inside the image only. Further out it may decrease again, and would
    repeat the inside of the image there.
    """
    height, width = shape
    x = (np.arange(width) + 0.5 - K[0, 2]) / K[0, 0]
    y = (np.arange(height) + 0.5 - K[1, 2]) / K[1, 1]
    radius = np.hypot(x[None, :], y[:, None])
    samples = np.linspace(0, radius.max(), RADIUS_SAMPLES)
    if model == "fisheye":
        angle = np.arctan(samples)
        powers = np.stack([angle ** (2 * i) for i in range(1, 5)], -1)
        distorted = angle * (1 + powers @ coefficients)
    else:
        k1, k2, _, _, k3, k4, k5, k6 = coefficients
        squared = samples**2
        above = 1 + squared * (k1 + squared * (k2 + squared * k3))
        below = 1 + squared * (k4 + squared * (k5 + squared * k6))
        distorted = samples * above / below
    falling = np.flatnonzero(np.diff(distorted) <= 0)
    limit = samples[falling[0]] if len(falling) else np.inf
    return np.asarray(radius <= limit)
