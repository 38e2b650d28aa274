"""Pictures and video to disk. Paths are written directly: callers see to atomicity."""

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# Tried in order; which ones work depends on how OpenCV was built. Browsers play the
# first two.
CODECS = ("avc1", "vp09", "mp4v")


def to_bytes(rgb: Float[Tensor, "3 h w"]) -> np.ndarray:
    """A picture as [h, w, 3] bytes, clipped and rounded."""
    pixels = (rgb.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def depth_to_color(depth: Float[Tensor, "1 h w"], alpha: Float[Tensor, "1 h w"]) -> Tensor:
    """Depth coloured by disparity, near = red; black where nothing is seen."""
    seen = alpha[0] > 0.5
    disparity = torch.where(seen, 1 / depth[0].clamp_min(1e-12), 0)
    scaled = torch.zeros_like(disparity)
    if seen.any():
        values = disparity[seen]
        values = values[:: max(1, len(values) // 100_000)]
        low, high = torch.quantile(values, values.new_tensor([0.02, 0.98]))
        scaled = ((disparity - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    levels = (scaled.cpu() * 255).round().to(torch.uint8).numpy()
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture = torch.from_numpy(colors).permute(2, 0, 1).float() / 255
    return picture.to(depth) * seen


def write_image(path: Path, rgb: Float[Tensor, "3 h w"]) -> None:
    """PNG or JPEG by extension; OSError when it cannot be written."""
    if not cv2.imwrite(str(path), cv2.cvtColor(to_bytes(rgb), cv2.COLOR_RGB2BGR)):
        raise OSError(f"could not write the picture {path}")


def write_video(path: Path, frames: Iterable[Float[Tensor, "3 h w"]], fps: float) -> str:
    """An mp4 of the frames; returns the codec. OSError when no codec works.

    Sizes are padded to even numbers, which the codecs need.
    """
    writer, codec = None, ""
    for frame in frames:
        pixels = cv2.cvtColor(to_bytes(frame), cv2.COLOR_RGB2BGR)
        odd_h, odd_w = pixels.shape[0] % 2, pixels.shape[1] % 2
        pixels = np.pad(pixels, ((0, odd_h), (0, odd_w), (0, 0)), mode="edge")
        if writer is None:
            writer, codec = _open_writer(path, fps, (pixels.shape[1], pixels.shape[0]))
        writer.write(pixels)
    if writer is None:
        raise ValueError("a video needs at least one frame")
    writer.release()
    return codec


def _open_writer(path: Path, fps: float, size: tuple[int, int]) -> tuple[cv2.VideoWriter, str]:
    # FFmpeg complains on standard error about every codec that this build lacks.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        for codec in CODECS:
            fourcc = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(path), fourcc, fps, size)
            if writer.isOpened():
                return writer, codec
    finally:
        cv2.utils.logging.setLogLevel(level)
    raise OSError(f"OpenCV has none of the video codecs {', '.join(CODECS)}")
