"""Views from all that a user may have: captures, files, arrays, tensors, COLMAP reconstructions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon.capture.cameras import select_spread
from recon.capture.colmap import read_colmap
from recon.capture.frame_views import views_of_frames
from recon.capture.lenses import pinhole_photos
from recon.capture.readers import load_capture
from recon.capture.sfm import SolveConfig, solve_cameras
from recon.capture.types import Capture, Frame, FrameCamera
from recon.errors import InputError
from recon.files import temporary_folder
from recon.types import Views
from render import Cameras

Images: TypeAlias = np.ndarray | Tensor | Sequence[np.ndarray] | Sequence[Tensor]


def load_views(
    source: Any,
    resolution: int = 512,
    cameras: Cameras | None = None,
    image_folder: str | Path | None = None,
    max_views: int | None = None,
) -> Views:
    """Load images as views: pixels as tensors, with pinhole cameras for exactly these pixels.

    Args:
        source: One of

            - a capture, or anything that `load_capture` reads: a folder, a list of image files;
            - a list of the frames of a capture, which have cameras;
            - images as one array or tensor [v 3 h w] or [v h w 3], or a list of them [3 h w] or
              [h w 3], all of one size: uint8, or floating-point display sRGB in [0, 1];
            - a `pycolmap.Reconstruction`, whose images are in `image_folder`.
        resolution: Length of the long side of the views (px). Larger images are reduced by area,
            smaller ones stay as they are.
        cameras: Cameras of the images, in their order; they may be for another size of the same
            shape. If there are none, and the source has none, they are solved by structure from
            motion (extra `sfm`); images whose camera cannot be solved are left out. A single image
            without a camera gets one at the origin that looks along +z.
        image_folder: Folder of the images of a `pycolmap.Reconstruction`.
        max_views: Maximum number of views of a capture or a list of files, chosen by
            `select_spread`; by default all.

    Raises:
        InputError: An image cannot be read, or images and cameras do not fit each other.
        MissingDependency: Cameras must be solved, but pycolmap is not installed.
    """
    if type(source).__module__.partition(".")[0] == "pycolmap":
        return _from_colmap(source, image_folder, resolution, max_views)
    if _holds(source, (np.ndarray, Tensor)):
        return _from_images(source, resolution, cameras)
    if _holds(source, (Frame,)):
        return views_of_frames(source, resolution)
    capture = load_capture(source)
    if cameras is not None:
        capture = _with_cameras(capture, cameras)
    return _from_capture(capture, resolution, max_views)


def _holds(source: Any, kinds: tuple[type, ...]) -> bool:
    """Return whether the source is of one of the types, or a list of them."""
    if isinstance(source, (list, tuple)):
        return bool(source) and isinstance(source[0], kinds)
    return isinstance(source, kinds)


def _from_capture(capture: Capture, resolution: int, max_views: int | None) -> Views:
    if not capture.has_cameras:
        capture = solve_cameras(capture, SolveConfig(), lambda stage, done: None).capture
    chosen = select_spread(capture, max_views or len(capture.frames))
    return views_of_frames([capture.frames[i] for i in chosen], resolution)


def _from_colmap(
    reconstruction: Any, folder: str | Path | None, resolution: int, max_views: int | None
) -> Views:
    if folder is None:
        raise InputError("a COLMAP reconstruction has no pixels; pass image_folder as well")
    with temporary_folder() as model:
        reconstruction.write(str(model))
        capture = pinhole_photos(read_colmap(Path(folder), model))
    return _from_capture(capture, resolution, max_views)


def _with_cameras(capture: Capture, cameras: Cameras) -> Capture:
    """Assign these cameras to a capture's photos."""
    cameras = _one_row(cameras, len(capture.frames))
    frames = tuple(
        replace(
            frame,
            camera=FrameCamera(
                camera.viewmats.cpu().double(),
                camera.Ks.cpu().double(),
                cameras.width,
                cameras.height,
            ),
        )
        for frame, camera in zip(capture.frames, cameras, strict=True)
    )
    return replace(capture, frames=frames)


def _one_row(cameras: Cameras, count: int) -> Cameras:
    row = cameras.map(lambda tensor: tensor[None]) if cameras.viewmats.ndim == 2 else cameras
    if row.viewmats.ndim != 3 or len(row) != count:
        shape = tuple(row.viewmats.shape[:-2])
        raise InputError(f"expected one camera for each of {count} images, got {shape} cameras")
    return row


def _from_images(source: Images, resolution: int, cameras: Cameras | None) -> Views:
    images = _as_batch(source)
    if cameras is None:
        return _solved(images, resolution)
    v, _, height, width = images.shape
    cameras = _one_row(cameras, v)
    if abs(width * cameras.height - height * cameras.width) > 0.01 * width * cameras.height:
        raise InputError(
            f"images are {width}x{height} px, but their cameras are for "
            f"{cameras.width}x{cameras.height}; expected the same shape"
        )
    cameras = cameras.resized(width, height).to(images.device, torch.float32)
    whole = torch.ones_like(images[:, :1])
    names = tuple(f"{i:04d}" for i in range(v))
    views = Views(images, whole, whole, cameras, names)
    scale = resolution / max(width, height)
    return views.resized(scale) if scale < 1 else views


def _as_batch(source: Images) -> Float[Tensor, "v 3 h w"]:
    """Convert images of any accepted kind to float32 in [0, 1], channels first."""
    if isinstance(source, (np.ndarray, Tensor)):
        one = source.ndim == 3
        parts = [torch.as_tensor(source)] if one else list(torch.as_tensor(source))
    else:
        parts = [torch.as_tensor(image) for image in source]
    shapes = {tuple(image.shape) for image in parts}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3 or 3 not in next(iter(shapes)):
        raise InputError(
            "images must all be [3 h w] or [h w 3], of one size; got "
            f"{' and '.join(str(list(shape)) for shape in sorted(shapes)[:3]) or 'none'}"
        )
    images = torch.stack(parts)
    if images.shape[1] != 3:
        images = images.movedim(-1, 1)
    if images.dtype == torch.uint8:
        return images.float() / 255
    low, high = float(images.min()), float(images.max())
    if not (images.is_floating_point() and low >= 0 and high <= 1):
        raise InputError(
            f"images must be uint8, or floating-point in [0, 1]; got {images.dtype} from "
            f"{low:g} to {high:g}; divide by the largest value"
        )
    return images.float().contiguous()


def _solved(images: Float[Tensor, "v 3 h w"], resolution: int) -> Views:
    """Solve cameras of images that are in memory only: the solver reads files."""
    pixels = (255 * images).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    with temporary_folder() as folder:
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(folder / f"{i:04d}.png")
        views = _from_capture(load_capture(folder), resolution, None)
    return views.to(images.device)
