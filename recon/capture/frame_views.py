"""Views from photos: images of one size with pinhole cameras."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from recon.capture.images import (
    UnreadablePhoto,
    masked,
    read_mask,
    read_pixels,
    resized,
    scaled_size,
)
from recon.capture.orientation import mask_as_stored, photo_size
from recon.capture.types import Frame, FrameCamera
from recon.capture.undistort import undistort
from recon.capture.valid_frames import check_shape
from recon.errors import InputError, LeftOutWarning, listed, warn
from recon.precision import WORLD, float32_error, local_origin
from recon.types import PackedViews, Progress, Views
from render import Cameras
from render.cameras import camera_centers

# Undistortion interpolates at this multiple of the final size, which keeps more detail.
OVERSAMPLING = 2
# Photos that are read at the same time, and the bytes that their originals may take, with their
# number of bytes a pixel.
MAX_THREADS, MAX_READ_BYTES, READ_BYTES_PX = 4, 300e6, 14


@dataclass(frozen=True)
class _Image:
    """An undistorted photo at its final size, before padding, 0 to 255; colours times mask."""

    colors: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"] | None
    """None if it equals `valid`."""
    valid: UInt8[np.ndarray, "h w"] | None
    """None if all pixels are inside the photo."""
    K: Float[np.ndarray, "3 3"]


def views_of_frames(frames: Sequence[Frame], resolution: int) -> Views:
    """Read the images and cameras of frames that have cameras; see `packed_views`."""
    return packed_views(frames, resolution)[:]


def packed_views(
    frames: Sequence[Frame], resolution: int, progress: Progress = lambda done: None
) -> PackedViews:
    """Read the images and cameras of frames that have cameras.

    Photos are undistorted to pinhole cameras with the same focal length and principal point.
    Smaller images are padded on the right and at the bottom, with mask 0. A photo that cannot be
    decoded is left out, and named by a warning. As many originals are in memory at a time as torch
    has threads, at most MAX_THREADS, and fewer if they are large.

    Args:
        frames: Frames with cameras.
        resolution: Long side of the images in pixels; smaller photos are not enlarged.
        progress: Called with the completed fraction.

    Raises:
        InputError: No file can be read, or an aspect ratio differs from that of its camera.
    """
    originals = [photo_size(frame) for frame in frames]
    sizes = _scaled_sizes(originals, resolution)
    width, height = _enclosing(sizes)
    affordable = MAX_READ_BYTES // (READ_BYTES_PX * max(w * h for w, h in originals))
    threads = int(max(1, min(torch.get_num_threads(), MAX_THREADS, affordable)))
    colors = np.zeros((len(frames), 3, height, width), np.uint8)
    masks, valid, Ks = [], [], []
    reasons: dict[int, str] = {}
    # Decoding and resampling release Python's lock.
    with ThreadPoolExecutor(threads) as pool:
        images = pool.map(lambda frame: _image_or_reason(frame, resolution), frames)
        for index, (image, (columns, rows)) in enumerate(zip(images, sizes, strict=True)):
            if isinstance(image, str):
                reasons[index] = image
                continue
            colors[index, :, :rows, :columns] = image.colors.transpose(2, 0, 1)
            masks.append(image.mask)
            valid.append(image.valid)
            Ks.append(image.K)
            progress((index + 1) / len(frames))
    if reasons:
        _warn_of_unreadable(frames, reasons)
        kept = [i for i in range(len(frames)) if i not in reasons]
        frames, sizes, colors = [frames[i] for i in kept], [sizes[i] for i in kept], colors[kept]
    inside = _stacked(valid, sizes)
    exact = torch.stack([frame.camera.viewmat for frame in frames if frame.camera]).double()
    viewmats = exact.float()
    _warn_of_rounding(camera_centers(exact).numpy())
    return PackedViews(
        colors=torch.from_numpy(colors),
        cameras=Cameras(viewmats, torch.from_numpy(np.stack(Ks)).float(), width, height),
        names=tuple(frame.name for frame in frames),
        masks=inside if all(mask is None for mask in masks) else _stacked(masks, sizes, valid),
        valid=inside,
        depth_bounds=_bounds(frames),
    )


def _warn_of_rounding(centers: Float[np.ndarray, "v 3"]) -> None:
    """Warn if float32 is too coarse for these cameras; a reconstruction moves them before."""
    origin = local_origin(centers)
    if origin != WORLD:
        warn(
            f"cameras around {', '.join(f'{value:,.0f}' for value in origin)} are rounded by up to "
            f"{float32_error(origin):.3g} units in float32; move the capture first (relative_to)"
        )


def padded_size(originals: Sequence[tuple[int, int]], resolution: int) -> tuple[int, int]:
    """Return (width, height) of the images that `packed_views` makes of photos of these sizes."""
    return _enclosing(_scaled_sizes(originals, resolution))


def _scaled_sizes(originals: Sequence[tuple[int, int]], resolution: int) -> list[tuple[int, int]]:
    return [scaled_size(size, resolution / max(size)) for size in originals]


def _enclosing(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the smallest (width, height) that holds images of all these sizes."""
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _image_or_reason(frame: Frame, resolution: int) -> _Image | str:
    """Return the image of a photo, or why it cannot be decoded."""
    try:
        return _image(frame, resolution)
    except UnreadablePhoto as error:
        # A mask is of one photo only as well, but without it the scene would have what it excludes.
        if frame.mask_path is not None and str(frame.mask_path) in str(error):
            raise
        return error.reason


def _warn_of_unreadable(frames: Sequence[Frame], reasons: Mapping[int, str]) -> None:
    """Warn of photos that are left out; InputError if there are no others."""
    first = next(iter(reasons.values()))
    names = listed([frames[i].name for i in reasons])
    if len(reasons) == len(frames):
        raise InputError(f"cannot read any photo, {names}: {first}")
    warn(f"left out {len(reasons)} of {len(frames)} photos, {names}: {first}", LeftOutWarning)


def _image(frame: Frame, resolution: int) -> _Image:
    camera = frame.camera
    if camera is None:
        raise ValueError(f"frame {frame.name} has no camera")
    colors, mask = read_pixels(frame.image_path, apply_orientation=frame.oriented)
    height, width = colors.shape[:2]
    check_shape((width, height), (camera.width, camera.height), frame.image_path)
    if frame.mask_path is not None:
        stored = read_mask(frame.mask_path, frame.mask_inverted)
        kept = resized(mask_as_stored(stored, frame, (width, height)), (width, height))
        mask = kept if mask is None else masked(kept, mask)
    # Masked before any resampling, so that excluded pixels do not bleed into the edges.
    if mask is not None:
        colors = masked(colors, mask)
    long_side = max(width, height)
    size = scaled_size((width, height), resolution / long_side)
    K = _K_for(camera, size)
    if camera.distortion == "none":
        return _Image(resized(colors, size), None if mask is None else resized(mask, size), None, K)
    work = scaled_size((width, height), OVERSAMPLING * resolution / long_side)
    whole = np.full(work[::-1], 255, np.uint8)
    straight = undistort(
        camera,
        _K_for(camera, work),
        resized(colors, work).astype(np.float32),
        (whole if mask is None else resized(mask, work)).astype(np.float32),
    )
    colors, covered, inside = (resized(image, size) for image in straight)
    valid = np.where(inside >= 0.5, np.uint8(255), np.uint8(0))
    colors = np.where(valid[..., None] > 0, colors.round().astype(np.uint8), np.uint8(0))
    if mask is not None:
        mask = np.where(valid > 0, covered.round().astype(np.uint8), np.uint8(0))
    return _Image(colors, mask, valid, K)


def _stacked(
    channels: Sequence[np.ndarray | None],
    sizes: Sequence[tuple[int, int]],
    otherwise: Sequence[np.ndarray | None] | None = None,
) -> UInt8[Tensor, "v 1 h w"] | None:
    """Stack one channel of all photos, padded with 0; None if it is 255 everywhere.

    Args:
        channels: The channel of each photo; None if it is that of `otherwise`.
        sizes: (width, height) of each photo.
        otherwise: The channel of each photo instead; None if it is 255 everywhere.
    """
    chosen = [
        other if channel is None else channel
        for channel, other in zip(channels, otherwise or channels, strict=True)
    ]
    if all(each is None for each in chosen) and len(set(sizes)) == 1:
        return None
    width, height = _enclosing(sizes)
    stacked = np.zeros((len(sizes), 1, height, width), np.uint8)
    for target, each, (columns, rows) in zip(stacked, chosen, sizes, strict=True):
        target[:, :rows, :columns] = 255 if each is None else each
    return torch.from_numpy(stacked)


def _K_for(camera: FrameCamera, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Return the intrinsics for an image of (width, height)."""
    factors = np.array([size[0] / camera.width, size[1] / camera.height, 1.0])
    return np.asarray(camera.K.numpy() * factors[:, None])


def _bounds(frames: Sequence[Frame]) -> Float[Tensor, "v 2"] | None:
    """Return the nearest and farthest depth per view, or None unless every frame has them.

    Structure-from-motion points are not used: surfaces without points (a hollow, blank walls) are
    often nearer or farther than all of them, and the network finds the range better
    (docs/experiments/camera-poses.md).
    """
    known = [frame.depth_bounds for frame in frames if frame.depth_bounds is not None]
    return torch.tensor(known) if len(known) == len(frames) else None
