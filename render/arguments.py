"""Checks of the rasterizer's arguments: errors name the argument, its value and what fits."""

import torch
from torch import Tensor

from render.cameras import Cameras
from render.gaussians import Gaussians
from render.types import RasterizeSettings

RENDER_MODES = ("RGB", "D", "RGB+D")


def is_single_camera(gaussians: Gaussians, cameras: Cameras) -> bool:
    """Return whether the cameras lack the axis v, as `cameras[i]` does."""
    return cameras.viewmats.ndim == gaussians.means.ndim


def check_arguments(
    gaussians: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings,
    channels: Tensor | None = None,
    mask: Tensor | None = None,
    backgrounds: Tensor | None = None,
) -> None:
    """Raise a ValueError that names the argument if no backend can accept it."""
    means = gaussians.means
    if means.ndim < 2 or means.shape[-1] != 3:
        raise ValueError(f"means has shape {tuple(means.shape)}, expected (*batch, n, 3)")
    batch, count = tuple(means.shape[:-2]), means.shape[-2]
    colors = 3 if channels is None else (*channels.shape, 1)[channels.ndim - 1]
    per_gaussian = {
        "quats": (gaussians.quats, (*batch, count, 4)),
        "scales": (gaussians.scales, (*batch, count, 3)),
        "opacities": (gaussians.opacities, (*batch, count)),
        "sh": (gaussians.sh, (*batch, count, (gaussians.sh_degree + 1) ** 2, 3)),
        "channels": (channels, (*batch, count, colors)),
        "mask": (mask, (*batch, count)),
    }
    # Any number of cameras is accepted, and read from the shape itself.
    free = cameras.viewmats.shape[len(batch) : len(batch) + 1] or (1,)
    views = batch if is_single_camera(gaussians, cameras) else (*batch, *free)
    per_view = {
        "viewmats": (cameras.viewmats, (*views, 4, 4)),
        "Ks": (cameras.Ks, (*views, 3, 3)),
    }
    for name, (tensor, shape) in {**per_gaussian, **per_view}.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    if backgrounds is not None:
        _check_backgrounds(backgrounds, (*views, colors))
    tensors = {name: tensor for name, (tensor, _) in {**per_gaussian, **per_view}.items()}
    _check_kinds(means, {**tensors, "backgrounds": backgrounds})
    _check_values(cameras, settings)


def _check_backgrounds(backgrounds: Tensor, shape: tuple[int, ...]) -> None:
    try:
        fits = tuple(torch.broadcast_shapes(backgrounds.shape, shape)) == shape
    except RuntimeError:
        fits = False
    if not fits or backgrounds.shape[-1:] != shape[-1:]:
        raise ValueError(
            f"backgrounds has shape {tuple(backgrounds.shape)}, expected {shape} (a colour for "
            f"each camera) or ({shape[-1]},) for all"
        )


def _check_kinds(means: Tensor, tensors: dict[str, Tensor | None]) -> None:
    """Check that all have the dtype and device of the means; only the mask is boolean."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        dtype = torch.bool if name == "mask" else means.dtype
        if tensor.dtype != dtype:
            like = "" if name == "mask" else " like means; cast one with .to(dtype)"
            raise ValueError(f"{name} is {tensor.dtype}, expected {dtype}{like}")
        if tensor.device != means.device:
            raise ValueError(
                f"{name} is on {tensor.device}, expected {means.device} like means; move one with "
                ".to(device)"
            )


def _check_values(cameras: Cameras, settings: RasterizeSettings) -> None:
    if cameras.width < 1 or cameras.height < 1:
        raise ValueError(
            f"cameras have images of {cameras.width} x {cameras.height} px, expected at least 1 x 1"
        )
    for name, tensor in (("viewmats", cameras.viewmats), ("Ks", cameras.Ks)):
        # On a GPU this check would wait for all pending work.
        if tensor.device.type == "cpu" and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} of the cameras has NaN or infinite values")
    if settings.render_mode not in RENDER_MODES:
        raise ValueError(
            f"render_mode is {settings.render_mode!r}, expected {', '.join(RENDER_MODES)}"
        )
