"""Windows of photos: cropped at random, resampled and changed in brightness and colour."""

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from recon.capture import Capture, load_capture, load_views
from render import Cameras

# Long side of photos in memory (px); larger if images of more than half of it are requested.
SIDE_PX = 640
# Photos in memory, of 0.8 MB each.
MAX_PHOTOS = 1024
# Position of the focus point in a window, relative to its middle and size.
FOCUS_JITTER = 0.25


@dataclass(frozen=True)
class Photo:
    """A photo in memory, undistorted."""

    pixels: UInt8[np.ndarray, "h w 3"]
    """Display sRGB; black where the photo is masked."""
    camera: Cameras
    """Camera of the pixels."""
    depth_bounds: Float[Tensor, "2"] | None
    """Nearest and farthest depth, if the capture states them."""


@dataclass(frozen=True)
class Window:
    """A part of a photo, in its pixels."""

    left: int
    top: int
    width: int
    height: int


@functools.lru_cache(maxsize=256)
def read_capture(root: Path) -> Capture:
    """Read a capture once."""
    return load_capture(root)


@functools.lru_cache(maxsize=MAX_PHOTOS)
def load_photo(root: Path, index: int, side_px: int) -> Photo:
    """Load a photo of a capture at a long side of at most `side_px`, and keep it in memory."""
    views = load_views([read_capture(root).frames[index]], side_px)
    pixels = (255 * views.images[0].movedim(0, -1)).round().to(torch.uint8).numpy()
    bounds = None if views.depth_bounds is None else views.depth_bounds[0]
    return Photo(np.ascontiguousarray(pixels), views.cameras[0], bounds)


def draw_windows(
    photos: list[Photo],
    size: tuple[int, int],
    smallest: float,
    focus: Float[Tensor, "3"] | None,
    generator: torch.Generator,
) -> list[Window]:
    """Draw a window of each photo with the shape of the requested images and a common zoom.

    Args:
        photos: Photos of one scene.
        size: Requested width and height (px).
        smallest: Side of the smallest window, relative to the largest that fits into the photo. No
            window is smaller than the requested images, unless the photo is.
        focus: World point that the windows show if the photos do, near their middle; without it,
            their positions relative to the photos are the same.
        generator: Source of the random numbers.
    """
    width, height = size
    fits = [min(p.camera.width / width, p.camera.height / height) for p in photos]
    smallest = min(max(smallest, 1 / min(fits)), 1.0)
    draw = torch.rand(3, generator=generator).tolist()
    zoom = smallest + (1 - smallest) * draw[0]
    windows = []
    for photo, fit in zip(photos, fits, strict=True):
        full = (photo.camera.width, photo.camera.height)
        sides = [min(max(round(zoom * fit * n), 1), m) for n, m in zip(size, full, strict=True)]
        free = [m - n for n, m in zip(sides, full, strict=True)]
        start = [part * room for part, room in zip(draw[1:], free, strict=True)]
        if focus is not None:
            means2d, depth = photo.camera.project(focus[None])
            if float(depth) > 0:
                shifts = [0.5 + FOCUS_JITTER * (2 * part - 1) for part in draw[1:]]
                point = means2d[0].tolist()
                start = [p - s * n for p, s, n in zip(point, shifts, sides, strict=True)]
        left, top = (round(min(max(s, 0), room)) for s, room in zip(start, free, strict=True))
        windows.append(Window(left, top, sides[0], sides[1]))
    return windows


def cut(photo: Photo, window: Window, width: int, height: int) -> tuple[np.ndarray, Cameras]:
    """Resample a window of a photo, averaged over areas where it shrinks, with its camera."""
    rows = slice(window.top, window.top + window.height)
    part = photo.pixels[rows, window.left : window.left + window.width]
    shrinks = width <= window.width
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    camera = photo.camera.cropped(window.left, window.top, window.width, window.height)
    return cv2.resize(part, (width, height), interpolation=mode), camera.resized(width, height)


def color_table(amount: float, generator: torch.Generator) -> Float[np.ndarray, "256 3"]:
    """Draw a change of brightness, contrast and white balance: 8-bit values to [0, 1].

    Gain and gamma vary by up to `amount` (natural logarithm), single channels by a third of it.
    """
    draw = amount * (2 * torch.rand(5, generator=generator, dtype=torch.float64).numpy() - 1)
    gains = np.exp(draw[0] + draw[2:] / 3)
    values = (np.arange(256) / 255)[:, None] ** np.exp(draw[1])
    table: np.ndarray = (gains * values).clip(0, 1).astype(np.float32)
    return table


def as_images(pixels: list[np.ndarray], table: Float[np.ndarray, "256 3"]) -> Tensor:
    """Convert 8-bit images [h w 3] to one tensor [v 3 h w] by a table of each channel."""
    images = np.stack([cv2.LUT(image, table[:, None]) for image in pixels])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
