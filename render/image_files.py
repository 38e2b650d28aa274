"""Image files that hold more than display colours: depth in 16 bits, and OpenEXR.

Paths are written directly: callers ensure atomicity.
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from render.srgb import to_linear
from render.types import RenderOutput

MAX_16_BIT = 65535
# Where less of the light than this comes from the scene, a depth PNG has 0.
MIN_ALPHA = 0.5


def with_alpha(output: RenderOutput) -> Float[Tensor, "4 h w"]:
    """Return the colours of one image over black and its alpha, by which they are divided."""
    rgb, alpha = (tensor.reshape(-1, *tensor.shape[-2:]) for tensor in (output.rgb, output.alpha))
    return torch.cat([rgb / alpha.clamp_min(1e-6), alpha]).clamp(0, 1)


def write_depth_png(path: str | Path, output: RenderOutput, unit: float) -> float:
    """Write the expected depth of one image as a 16-bit grey PNG.

    Args:
        path: of the file; ends in .png.
        output: one image with depth.
        unit: depth of one step (world units).

    Returns:
        Fraction of the pixels that are seen but too far for 16 bits; they have the largest value.
        0 stands for pixels whose alpha is below a half.
    """
    seen = output.alpha.reshape(output.alpha.shape[-2:]) >= MIN_ALPHA
    depth = output.expected_depth.reshape(seen.shape)
    steps = (depth.double() / unit).round().clamp_min(1)
    values = torch.where(seen, steps.clamp_max(MAX_16_BIT), 0).cpu().numpy().astype(np.uint16)
    Path(path).write_bytes(cv2.imencode(".png", values)[1].tobytes())
    return float((seen & (steps > MAX_16_BIT)).double().mean())


def check_exr_support() -> None:
    """Raise OSError with the remedy if OpenEXR files cannot be written on this machine."""
    if importlib.util.find_spec("OpenEXR") is None:
        raise OSError("writing .exr needs OpenEXR, which is not installed: pip install OpenEXR")


def write_exr(path: str | Path, output: RenderOutput, only_depth: bool = False) -> None:
    """Write one image as OpenEXR: R G B A in 16-bit and Z in 32-bit floats.

    As compositing programs expect, colours are linear BT.709, multiplied by alpha. Z is the
    expected depth in world units, infinite where alpha is 0.

    Args:
        path: of the file.
        output: one image over black, with depth.
        only_depth: leave out the colours.

    Raises:
        OSError: the file cannot be written, or OpenEXR is not installed.
    """
    check_exr_support()
    import OpenEXR

    alpha = output.alpha.reshape(output.alpha.shape[-2:]).float().cpu()
    depth = output.expected_depth.reshape(alpha.shape).float().cpu()
    channels = {"Z": torch.where(alpha > 0, depth, torch.inf).numpy()}
    if not only_depth:
        straight = with_alpha(output).float().cpu()
        linear = to_linear(straight[:3].numpy()) * alpha.numpy()
        for name, values in zip("RGBA", [*linear, alpha.numpy()], strict=True):
            channels[name] = values.astype(np.float16)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    try:
        OpenEXR.File(header, channels).write(str(path))
    except RuntimeError as error:
        raise OSError(f"could not write {path}: {error}") from None
