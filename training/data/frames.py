"""Image files decoded at the size of a training scene."""

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from recon.capture.images import DECODE_ERRORS
from training.data.types import Unusable

# A JPEG file is decoded at a reduced scale of at least this times the final size (Pillow's advice).
REDUCING_GAP = 2


def decode_frame(
    content: bytes,
    intrinsics: Sequence[float],
    width: int,
    height: int,
    mode: Literal["RGB", "RGBa"] = "RGB",
) -> tuple[UInt8[np.ndarray, "h w c"], Float[Tensor, "3 3"]]:
    """Decode an image file, scale it (Lanczos) to cover width x height, and crop to the centre.

    Args:
        content: The image file.
        intrinsics: fx, fy, cx, cy as fractions of the image's width and height.
        width: Width of the result (px).
        height: Height of the result (px).
        mode: RGB, or RGBa for colours multiplied by alpha, and alpha.

    Returns:
        Pixels, display sRGB, and the camera matrix K for them (px).

    Raises:
        Unusable: The file is damaged.
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            scale = max(width / file.width, height / file.height)
            size = (round(file.width * scale), round(file.height * scale))
            file.draft("RGB", (REDUCING_GAP * size[0], REDUCING_GAP * size[1]))
            file.load()
            frame: Image.Image = file
            if mode != "RGB":
                frame = file.convert("RGBA").convert(mode)
            elif file.mode != "RGB":  # otherwise it would be copied
                frame = file.convert("RGB")
    except DECODE_ERRORS:
        raise Unusable("corrupt image") from None
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    if size != frame.size:
        # Only what remains of the frame is resampled.
        x, y = frame.width / size[0], frame.height / size[1]
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        frame = frame.resize((width, height), Image.Resampling.LANCZOS, box)
    elif size != (width, height):
        frame = frame.crop((left, top, left + width, top + height))
    fx, fy, cx, cy = intrinsics
    K = torch.tensor(
        [[fx * size[0], 0, cx * size[0] - left], [0, fy * size[1], cy * size[1] - top], [0, 0, 1]]
    )
    return np.asarray(frame), K


def viewmats_of_rows(rows: Float[Tensor, "n 12"]) -> Float[Tensor, "n 4 4"]:
    """Return matrices camera from world whose first three rows are given row by row."""
    viewmats = torch.eye(4).repeat(len(rows), 1, 1)
    viewmats[:, :3] = rows.reshape(-1, 3, 4).float()
    return viewmats
