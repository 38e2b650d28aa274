"""Synthetic photos of markers: textured squares, rendered with known cameras."""

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from recon.capture import Frame, FrameCamera
from render.cameras import look_at

WIDTH, HEIGHT, FOCAL = 800, 600, 700.0
SUPERSAMPLING = 3


def marker_image(family: str, number: int, side: int = 400) -> np.ndarray:
    """Return a marker, its black square filling the image."""
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{family}"))
    return cv2.aruco.generateImageMarker(dictionary, number, side)


def write_photos(
    folder: Path,
    markers: list[tuple[str, int, np.ndarray]],
    positions: list[tuple[float, float, float]],
    distortion: tuple[float, ...] = (),
    noise: float = 4.0,
) -> list[Frame]:
    """Write photos that look at the origin; +y is down.

    Args:
        folder: Where to write them.
        markers: Family, number, and the world positions [4 3] of the corners, clockwise from that
            at the top left.
        positions: Those of the cameras.
        distortion: OpenCV coefficients.
        noise: Standard deviation of the noise (8-bit values).
    """
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    rng = np.random.default_rng(0)
    frames = []
    for index, position in enumerate(positions):
        viewmat = look_at(
            torch.tensor(position).double(), torch.zeros(3).double(),
            torch.tensor([0.0, -1.0, 0.0]).double(),
        )  # fmt: skip
        image = _ideal(markers, viewmat.numpy(), K)
        if distortion:
            image = _distorted(image, K, np.array(distortion))
        image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        image = np.clip(image + noise * rng.standard_normal(image.shape), 0, 255).astype(np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(np.repeat(image[..., None], 3, 2)).save(path)
        kind = "opencv" if distortion else "none"
        camera = FrameCamera(viewmat, torch.from_numpy(K), WIDTH, HEIGHT, kind, distortion)
        frames.append(Frame(path.name, path, camera))
    return frames


def _ideal(markers: list, viewmat: np.ndarray, K: np.ndarray) -> np.ndarray:
    fine = np.diag([SUPERSAMPLING, SUPERSAMPLING, 1.0]) @ K
    size = (SUPERSAMPLING * WIDTH, SUPERSAMPLING * HEIGHT)
    image = np.full(size[::-1], 200, np.uint8)
    for family, number, corners in markers:
        texture = np.pad(marker_image(family, number), 80, constant_values=255)
        flat = corners @ viewmat[:3, :3].T + viewmat[:3, 3]
        px = (flat @ fine.T)[:, :2] / flat[:, 2:]
        # From coordinates of the texture, which count from the centre of its first pixel.
        square = np.array([[80, 80], [480, 80], [480, 480], [80, 480]], np.float32) - 0.5
        homography = cv2.getPerspectiveTransform(square, (px - 0.5).astype(np.float32))
        warped = cv2.warpPerspective(texture, homography, size, flags=cv2.INTER_LINEAR)
        inside = cv2.warpPerspective(np.full_like(texture, 255), homography, size)
        image = np.where(inside > 127, warped, image)
    return image


def _distorted(image: np.ndarray, K: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    fine = np.diag([SUPERSAMPLING, SUPERSAMPLING, 1.0]) @ K
    height, width = image.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2) + 0.5
    straight = cv2.undistortPoints(grid.astype(np.float64), fine, coefficients, P=fine)
    x, y = (straight.reshape(height, width, 2) - 0.5).astype(np.float32).transpose(2, 0, 1)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
