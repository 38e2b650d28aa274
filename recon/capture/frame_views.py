"""Views from photos: images of one size with pinhole cameras."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.images import read_image, read_mask, resized, scaled_size
from recon.capture.types import Frame, FrameCamera
from recon.capture.undistort import undistort
from recon.errors import InputError
from recon.types import Views
from render import Cameras

# Undistortion interpolates at this multiple of the final size, which keeps more detail.
OVERSAMPLING = 2


@dataclass(frozen=True)
class _Image:
    """An undistorted photo at its final size, before padding; colours times mask."""

    colors: np.ndarray
    mask: np.ndarray
    valid: np.ndarray
    K: np.ndarray


def views_of_frames(frames: Sequence[Frame], resolution: int) -> Views:
    """Read the images and cameras of frames that have cameras.

    Photos are undistorted to pinhole cameras with the same focal length and principal point.
    Smaller images are padded on the right and at the bottom, with mask 0. One original is in memory
    at a time.

    Args:
        frames: Frames with cameras.
        resolution: Long side of the images in pixels; smaller photos are not enlarged.

    Raises:
        InputError: A file cannot be read, or its aspect ratio differs from that of its camera.
    """
    images, viewmats = [], []
    for frame in frames:
        if frame.camera is None:
            raise ValueError(f"frame {frame.name} has no camera")
        images.append(_image(frame, frame.camera, resolution))
        viewmats.append(frame.camera.viewmat)
    height = max(i.mask.shape[0] for i in images)
    width = max(i.mask.shape[1] for i in images)
    masks = torch.stack([_padded(i.mask[..., None], height, width) for i in images])
    valid = torch.stack([_padded(i.valid[..., None], height, width) for i in images])
    colors = torch.stack([_padded(i.colors, height, width) for i in images])
    Ks = torch.from_numpy(np.stack([i.K for i in images])).float()
    return Views(
        images=colors,
        masks=masks,
        valid=valid,
        cameras=Cameras(torch.stack(viewmats).float(), Ks, width, height),
        names=tuple(frame.name for frame in frames),
        depth_bounds=_bounds(frames),
    )


def _image(frame: Frame, camera: FrameCamera, resolution: int) -> _Image:
    colors, alpha = read_image(frame.image_path, apply_orientation=False)
    height, width = colors.shape[:2]
    if abs(width * camera.height - height * camera.width) > 0.01 * width * camera.height:
        raise InputError(
            f"{frame.image_path} is {width}x{height} px but its camera is for "
            f"{camera.width}x{camera.height}; expected the same aspect ratio; correct the size in "
            "the camera file or use the original image"
        )
    mask = np.ones((height, width), np.float32) if alpha is None else alpha
    if frame.mask_path is not None:
        mask = mask * resized(read_mask(frame.mask_path), (width, height))
    # Masked before any resampling, so that excluded pixels do not bleed into the edges.
    colors = colors * mask[..., None]
    long_side = max(width, height)
    size = scaled_size((width, height), resolution / long_side)
    K = _K_for(camera, size)
    valid = np.ones(size[::-1], np.float32)
    if camera.distortion == "none":
        return _Image(resized(colors, size), resized(mask, size), valid, K)
    work = scaled_size((width, height), OVERSAMPLING * resolution / long_side)
    straight = undistort(camera, _K_for(camera, work), resized(colors, work), resized(mask, work))
    colors, mask, inside = (resized(image, size) for image in straight)
    valid = (inside >= 0.5).astype(np.float32)
    return _Image(colors * valid[..., None], mask * valid, valid, K)


def _K_for(camera: FrameCamera, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Return the intrinsics for an image of (width, height)."""
    factors = np.array([size[0] / camera.width, size[1] / camera.height, 1.0])
    return np.asarray(camera.K.numpy() * factors[:, None])


def _padded(image: np.ndarray, height: int, width: int) -> Float[Tensor, "c h w"]:
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    missing = (0, width - tensor.shape[2], 0, height - tensor.shape[1])
    return torch.nn.functional.pad(tensor.float(), missing)


def _bounds(frames: Sequence[Frame]) -> Float[Tensor, "v 2"] | None:
    """Return the nearest and farthest depth per view, or None unless every frame has them.

    Structure-from-motion points are not used: surfaces without points (a hollow, blank walls) are
    often nearer or farther than all of them, and the network finds the range better
    (docs/experiments/camera-poses.md).
    """
    known = [frame.depth_bounds for frame in frames if frame.depth_bounds is not None]
    return torch.tensor(known) if len(known) == len(frames) else None
