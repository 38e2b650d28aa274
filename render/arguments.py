"""Checks of the rasterizer's arguments: errors name the argument, its value and what fits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from render.cameras import Cameras
from render.gaussians import Gaussians
from render.sh import MAX_DEGREE, num_coefficients
from render.types import RasterizeSettings

RENDER_MODES = ("RGB", "D", "RGB+D")
SH_COUNTS = tuple(num_coefficients(degree) for degree in range(MAX_DEGREE + 1))


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
    """Raise an error that names the argument if no backend can accept it.

    Raises:
        TypeError: an argument is of another class.
        ValueError: the shape, dtype, device or value of an argument does not fit.
    """
    _check_class("gaussians", gaussians, Gaussians)
    _check_class("cameras", cameras, Cameras)
    _check_class("settings", settings, RasterizeSettings)
    optional = {"channels": channels, "mask": mask, "backgrounds": backgrounds}
    tensors = {"means": gaussians.means, "quats": gaussians.quats, "scales": gaussians.scales}
    tensors |= {"opacities": gaussians.opacities, "sh": gaussians.sh}
    tensors |= {"viewmats": cameras.viewmats, "Ks": cameras.Ks}
    tensors |= {name: tensor for name, tensor in optional.items() if tensor is not None}
    for name, tensor in tensors.items():
        _check_class(name, tensor, Tensor)
    means = gaussians.means
    if means.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"means is {means.dtype}, expected torch.float32 or torch.float64; cast the Gaussians "
            "and cameras with .to(torch.float32)"
        )
    _check_shapes(gaussians, cameras, channels, mask, backgrounds)
    _check_kinds(means, tensors)
    _check_values(cameras, settings)


def check_like(name: str, tensor: Tensor, like: Tensor) -> None:
    """Raise ValueError if a tensor has another shape, dtype or device than another one."""
    _check_shape(name, tensor, tuple(like.shape))
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise ValueError(
            f"{name} is {tensor.dtype} on {tensor.device}, expected {like.dtype} on {like.device}"
        )


def _check_class(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} is a {type(value).__name__}, expected {expected.__name__}")


def _check_shapes(
    gaussians: Gaussians,
    cameras: Cameras,
    channels: Tensor | None,
    mask: Tensor | None,
    backgrounds: Tensor | None,
) -> None:
    means = gaussians.means
    if means.ndim < 2 or means.shape[-1] != 3:
        raise ValueError(f"means has shape {tuple(means.shape)}, expected (*batch, n, 3)")
    batch, count = tuple(means.shape[:-2]), means.shape[-2]
    _check_shape("quats", gaussians.quats, (*batch, count, 4))
    _check_shape("scales", gaussians.scales, (*batch, count, 3))
    _check_shape("opacities", gaussians.opacities, (*batch, count))
    _check_shape("sh", gaussians.sh, (*batch, count, "k", 3))
    if gaussians.sh.shape[-2] not in SH_COUNTS:
        raise ValueError(
            f"sh has shape {tuple(gaussians.sh.shape)}, expected "
            f"{_description((*batch, count, 'k', 3))} with k = 1, 4, 9, 16 or 25"
        )
    if channels is not None:
        _check_shape("channels", channels, (*batch, count, "c"))
    if mask is not None:
        _check_shape("mask", mask, (*batch, count))
    viewmats = cameras.viewmats
    if is_single_camera(gaussians, cameras):
        fits = _fits(viewmats, (*batch, 4, 4))
    else:
        fits = _fits(viewmats, (*batch, "v", 4, 4))
    if not fits:
        single = "one camera per scene" if batch else "a single camera"
        raise ValueError(
            f"viewmats has shape {tuple(viewmats.shape)}, expected "
            f"{_description((*batch, 'v', 4, 4))}, or {(*batch, 4, 4)} for {single}"
        )
    views = tuple(viewmats.shape[:-2])
    if 0 in views:
        raise ValueError(
            f"viewmats has shape {tuple(viewmats.shape)}, expected at least one camera and one "
            "scene"
        )
    _check_shape("Ks", cameras.Ks, (*views, 3, 3))
    if backgrounds is not None:
        _check_backgrounds(backgrounds, (*views, 3 if channels is None else channels.shape[-1]))


def _check_shape(name: str, tensor: Tensor, shape: Sequence[int | str]) -> None:
    """Check a shape, in which a letter stands for any number."""
    if not _fits(tensor, shape):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {_description(shape)}")


def _fits(tensor: Tensor, shape: Sequence[int | str]) -> bool:
    return tensor.ndim == len(shape) and all(
        isinstance(expected, str) or found == expected
        for found, expected in zip(tensor.shape, shape, strict=True)
    )


def _description(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


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


def _check_kinds(means: Tensor, tensors: dict[str, Tensor]) -> None:
    """Check that all have the dtype and device of the means; only the mask is boolean."""
    for name, tensor in tensors.items():
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
    for name in ("eps2d", "alpha_min"):
        if not getattr(settings, name) >= 0:
            raise ValueError(f"{name} is {getattr(settings, name)}, expected at least 0")
    # Depths are divided by, and sorted as positive numbers.
    if settings.near is not None and not settings.near > 0:
        raise ValueError(f"near is {settings.near}, expected a depth above 0, or None")
    if settings.near is not None and not settings.near <= settings.far:
        raise ValueError(
            f"near is {settings.near} and far is {settings.far}, expected near to be at most far"
        )
