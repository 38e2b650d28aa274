"""Writes images and video to disk. Paths are written directly: callers ensure atomicity."""

import importlib.util
import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# H.264 in 4:2:0 plays in every player and browser. A constant rate factor of 18 is visually
# lossless.
CODEC, PIXEL_FORMAT, RATE_FACTOR = "libx264", "yuv420p", "18"
IMAGE_FORMATS = (".png", ".jpg", ".jpeg")
BT709 = 1  # of FFmpeg's enums of colour spaces, primaries and transfer functions


def to_bytes(rgb: Float[Tensor, "c h w"]) -> np.ndarray:
    """Convert an image to [h, w, c] bytes, clipped and rounded."""
    pixels = (rgb.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def depth_to_color(depth: Float[Tensor, "1 h w"], alpha: Float[Tensor, "1 h w"]) -> Tensor:
    """Colour depth by disparity, near = red; black where alpha is at most a half."""
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
    image = torch.from_numpy(colors).permute(2, 0, 1).float() / 255
    return image.to(depth) * seen


def write_image(path: str | Path, image: Float[Tensor, "c h w"]) -> None:
    """Write PNG or JPEG, by extension.

    Args:
        path: of the file; ends in .png, .jpg or .jpeg.
        image: [3 h w] in colour, [1 h w] in grey or, in PNG, [4 h w] with alpha last, which the
            colours are not multiplied by; values are clipped to [0, 1].

    Raises:
        ValueError: the extension is another, or the tensor is no such image.
        OSError: the file cannot be written.
    """
    _check_extension(path, IMAGE_FORMATS)
    png = Path(path).suffix.lower() == ".png"
    _check_image("the image", image, (1, 3, 4) if png else (1, 3))
    pixels = to_bytes(image)
    if len(image) > 1:
        order = cv2.COLOR_RGB2BGR if len(image) == 3 else cv2.COLOR_RGBA2BGRA
        pixels = cv2.cvtColor(pixels, order)
    # Not by imwrite, which does not say why it fails.
    Path(path).write_bytes(cv2.imencode(Path(path).suffix, pixels)[1].tobytes())


def read_images(paths: Iterable[Path]) -> Iterator[Float[Tensor, "3 h w"]]:
    """Read colour images that `write_image` wrote, one by one.

    Raises:
        OSError: one of them cannot be read.
    """
    for path in paths:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise OSError(f"cannot read the image {path}")
        yield torch.from_numpy(pixels).permute(2, 0, 1) / 255


def write_video(path: str | Path, frames: Iterable[Float[Tensor, "c h w"]], fps: float) -> None:
    """Write an mp4 (H.264, 4:2:0) of frames of one size.

    Sizes are padded to even numbers, which 4:2:0 needs.

    Args:
        path: of the file; ends in .mp4.
        frames: images, [3 h w] in colour or [1 h w] in grey; values are clipped to [0, 1].
        fps: frames per second.

    Raises:
        ValueError: there are no frames, they differ in size or are no images, `fps` is not
            positive, or the extension is another.
        OSError: the file cannot be written, or PyAV (the extra `video`) is not installed.
    """
    _check_extension(path, (".mp4",))
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps}, expected a positive number")
    check_video_support()
    import av

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("a video needs at least one frame")
    _check_image("frame 0", first)
    try:
        _encode(path, itertools.chain([first], frames), first.shape[-2:], fps)
    except av.FFmpegError as error:
        raise OSError(f"could not write the video {path}: {error}") from None


def check_video_support() -> None:
    """Raise OSError with the remedy if videos cannot be written on this machine."""
    if importlib.util.find_spec("av") is None:
        raise OSError("writing a video needs PyAV, which is not installed: pip install av")


def _check_extension(path: str | Path, extensions: tuple[str, ...]) -> None:
    if Path(path).suffix.lower() not in extensions:
        raise ValueError(f"cannot write {path}: its name must end in {' or '.join(extensions)}")


def _check_image(name: str, image: Tensor, channels: tuple[int, ...] = (1, 3)) -> None:
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise ValueError(f"{name} is {kind}, expected a floating-point tensor in [0, 1]")
    if image.ndim != 3 or image.shape[0] not in channels or 0 in image.shape:
        raise ValueError(f"{name} has shape {tuple(image.shape)}, expected (3, h, w) or (1, h, w)")


def _encode(
    path: str | Path, frames: Iterable[Float[Tensor, "c h w"]], size: tuple[int, ...], fps: float
) -> None:
    import av
    from av.video.reformatter import Colorspace

    # The index comes first, so that a player can start before it has all of the file.
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        rate = Fraction(fps).limit_denominator(10_000)
        stream = cast(av.VideoStream, container.add_stream(CODEC, rate))
        stream.height, stream.width = (side + side % 2 for side in size)
        stream.pix_fmt, stream.options = PIXEL_FORMAT, {"crf": RATE_FACTOR}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for index, frame in enumerate(frames):
            _check_image(f"frame {index}", frame)
            if frame.shape[-2:] != size:
                raise ValueError(
                    f"frame {index} has height and width {tuple(frame.shape[-2:])}, expected "
                    f"{tuple(size)} like the first"
                )
            pixels = to_bytes(frame.expand(3, -1, -1))
            odd = ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0))
            image = av.VideoFrame.from_ndarray(np.pad(pixels, odd, mode="edge"), format="rgb24")
            image = image.reformat(format=PIXEL_FORMAT, dst_colorspace=Colorspace.ITU709)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
