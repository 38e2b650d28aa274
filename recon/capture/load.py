"""From photos on disk to pictures of one size with pinhole cameras."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.images import read_image, read_mask
from recon.capture.types import Frame, FrameCamera, Views
from recon.errors import ReconError
from render import Cameras

# A few wrong points must not stretch the depth range; fewer points tell nothing.
POINT_QUANTILES = (0.01, 0.99)
POINT_SLACK = (0.8, 1.3)
MIN_POINTS = 20


@dataclass(frozen=True)
class _Picture:
    """One undistorted photo at its final size, before padding."""

    colors: np.ndarray
    mask: np.ndarray
    valid: np.ndarray
    K: np.ndarray


def load_views(frames: Sequence[Frame], resolution: int) -> Views:
    """Pictures and cameras of frames that have cameras.

    Each photo is scaled so that its long side is `resolution` px (never enlarged) and
    undistorted; focal length and principal point stay what they are. Smaller pictures
    are padded right and below, with mask 0. One original is in memory at a time.
    """
    pictures, viewmats = [], []
    for frame in frames:
        if frame.camera is None:
            raise ValueError(f"frame {frame.name} has no camera")
        pictures.append(_picture(frame, frame.camera, resolution))
        viewmats.append(frame.camera.viewmat)
    height = max(p.mask.shape[0] for p in pictures)
    width = max(p.mask.shape[1] for p in pictures)
    masks = torch.stack([_padded(p.mask[..., None], height, width) for p in pictures])
    valid = torch.stack([_padded(p.valid[..., None], height, width) for p in pictures])
    images = torch.stack([_padded(p.colors, height, width) for p in pictures])
    Ks = torch.from_numpy(np.stack([p.K for p in pictures])).float()
    return Views(
        images=images * masks,
        masks=masks,
        valid=valid,
        cameras=Cameras(torch.stack(viewmats).float(), Ks, width, height),
        names=tuple(frame.name for frame in frames),
        depth_bounds=_bounds(frames),
    )


def _picture(frame: Frame, camera: FrameCamera, resolution: int) -> _Picture:
    colors, alpha = read_image(frame.image_path, apply_orientation=False)
    height, width = colors.shape[:2]
    if abs(width * camera.height - height * camera.width) > 0.01 * width * camera.height:
        raise ReconError(
            f"{frame.image_path} is {width}x{height} px but its camera is for "
            f"{camera.width}x{camera.height}; expected the same shape; mend the size in the "
            "camera file or use the original image"
        )
    mask = np.ones((height, width), np.float32) if alpha is None else alpha
    scale = min(1.0, resolution / max(width, height))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    colors, mask = _resize(colors, size), _resize(mask, size)
    if frame.mask_path is not None:
        mask = mask * _resize(read_mask(frame.mask_path), size)
    K = camera.K.numpy().copy()
    K[0] *= size[0] / camera.width
    K[1] *= size[1] / camera.height
    valid = np.ones_like(mask)
    if camera.distortion != "none":
        colors, mask, valid = _undistort(camera, K, colors, mask)
    return _Picture(colors, mask * valid, valid, K)


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[1::-1] == size:
        return picture
    shrinks = size[0] <= picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _undistort(
    camera: FrameCamera, K: np.ndarray, colors: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Remap into the pinhole camera K; also which pixels come from inside the photo."""
    size = mask.shape[1::-1]
    # OpenCV counts pixel centres from 0, recon from 0.5.
    opencv_K = K.copy()
    opencv_K[:2, 2] -= 0.5
    coefficients = np.array(camera.coefficients, dtype=np.float64)
    if camera.distortion == "fisheye":
        maps = cv2.fisheye.initUndistortRectifyMap(
            opencv_K, coefficients, np.eye(3), opencv_K, size, cv2.CV_32FC1
        )
    else:
        maps = cv2.initUndistortRectifyMap(
            opencv_K, coefficients, np.eye(3), opencv_K, size, cv2.CV_32FC1
        )
    x, y = maps
    valid = (x >= -0.5) & (x <= size[0] - 0.5) & (y >= -0.5) & (y <= size[1] - 0.5)
    colors = cv2.remap(colors, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colors, mask, valid.astype(np.float32)


def _padded(picture: np.ndarray, height: int, width: int) -> Float[Tensor, "c h w"]:
    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    missing = (0, width - tensor.shape[2], 0, height - tensor.shape[1])
    return torch.nn.functional.pad(tensor.float(), missing)


def _bounds(frames: Sequence[Frame]) -> Float[Tensor, "v 2"] | None:
    """Nearest and farthest depth per view, or None unless every frame tells."""
    rows = [_frame_bounds(frame) for frame in frames]
    known = [row for row in rows if row is not None]
    return torch.tensor(known) if len(known) == len(rows) else None


def _frame_bounds(frame: Frame) -> tuple[float, float] | None:
    if frame.depth_bounds is not None:
        return frame.depth_bounds
    if frame.points is None or frame.camera is None:
        return None
    viewmat = frame.camera.viewmat
    depth = frame.points @ viewmat[2, :3] + viewmat[2, 3]
    depth = depth[depth > 0]
    if len(depth) < MIN_POINTS:
        return None
    low, high = torch.quantile(depth, depth.new_tensor(POINT_QUANTILES)).tolist()
    return low * POINT_SLACK[0], high * POINT_SLACK[1]
