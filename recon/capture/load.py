"""From photos on disk to pictures of one size with pinhole cameras."""

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

OVERSAMPLING = 2


@dataclass(frozen=True)
class _Picture:
    """One undistorted photo at its final size, before padding; colours times mask."""

    colors: np.ndarray
    mask: np.ndarray
    valid: np.ndarray
    K: np.ndarray


def views_of_frames(frames: Sequence[Frame], resolution: int) -> Views:
    """Pictures and cameras of frames that have cameras.

    Each photo is scaled so that its long side is `resolution` px (never enlarged) and
    undistorted; focal length and principal point stay what they are. Smaller pictures
    are padded right and below, with mask 0. One original is in memory at a time.
    InputError when a file cannot be read or has another shape than its camera says.
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
        images=images,
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
        raise InputError(
            f"{frame.image_path} is {width}x{height} px but its camera is for "
            f"{camera.width}x{camera.height}; expected the same shape; mend the size in the "
            "camera file or use the original image"
        )
    mask = np.ones((height, width), np.float32) if alpha is None else alpha
    if frame.mask_path is not None:
        mask = mask * resized(read_mask(frame.mask_path), (width, height))
    # Masked before any resampling: what is left out must not bleed into the edges.
    colors = colors * mask[..., None]
    long_side = max(width, height)
    size = scaled_size((width, height), resolution / long_side)
    K = _K_for(camera, size)
    valid = np.ones(size[::-1], np.float32)
    if camera.distortion == "none":
        return _Picture(resized(colors, size), resized(mask, size), valid, K)
    # Interpolating at twice the size first keeps the detail of the final one.
    work = scaled_size((width, height), OVERSAMPLING * resolution / long_side)
    straight = undistort(camera, _K_for(camera, work), resized(colors, work), resized(mask, work))
    colors, mask, inside = (resized(picture, size) for picture in straight)
    valid = (inside >= 0.5).astype(np.float32)
    return _Picture(colors * valid[..., None], mask * valid, valid, K)


def _K_for(camera: FrameCamera, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """The camera's intrinsics for a picture of (width, height)."""
    factors = np.array([size[0] / camera.width, size[1] / camera.height, 1.0])
    return camera.K.numpy() * factors[:, None]


def _padded(picture: np.ndarray, height: int, width: int) -> Float[Tensor, "c h w"]:
    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    missing = (0, width - tensor.shape[2], 0, height - tensor.shape[1])
    return torch.nn.functional.pad(tensor.float(), missing)


def _bounds(frames: Sequence[Frame]) -> Float[Tensor, "v 2"] | None:
    """Nearest and farthest depth per view, or None unless every frame states them.

    Structure-from-motion points do not: what they leave out (a hollow, blank walls) is often
    nearer or farther than all of them, and the network finds the range better (experiments.md).
    """
    known = [frame.depth_bounds for frame in frames if frame.depth_bounds is not None]
    return torch.tensor(known) if len(known) == len(frames) else None
