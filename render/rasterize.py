"""The one entry of the rasterizer: Gaussians and cameras in, pictures out."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from render.cameras import Cameras
from render.gaussians import Gaussians
from render.types import Backend, RasterizeSettings, RenderOutput


def _reference() -> Backend:
    from render.backends.reference import rasterize_reference

    return rasterize_reference


def _cpu() -> Backend:
    from render.backends.cpu import rasterize_cpu

    return rasterize_cpu


def _cuda() -> Backend:
    from render.backends.cuda import rasterize_cuda

    return rasterize_cuda


BACKENDS: dict[str, Callable[[], Backend]] = {
    "reference": _reference,
    "cpu": _cpu,
    "cuda": _cuda,
}


def choose_backend(gaussians: Gaussians) -> str:
    """Fastest backend that takes these tensors: by device, and the reference for float64."""
    if gaussians.means.dtype == torch.float64:
        return "reference"
    return "cuda" if gaussians.device.type == "cuda" else "cpu"


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    backgrounds: Float[Tensor, "*v c"] | None = None,
    settings: RasterizeSettings | None = None,
    *,
    features: Float[Tensor, "*b n c"] | None = None,
    mask: Bool[Tensor, "*b n"] | None = None,
    backend: str = "auto",
) -> RenderOutput:
    """Pictures of the Gaussians in every camera (3D Gaussian Splatting, eq. 3).

    Differentiable with respect to every tensor of the Gaussians, the features, the view
    matrices and the backgrounds; not with respect to Ks. Gaussians and cameras share
    their batch axes, device and dtype. The background shows through where alpha is
    below 1; without one it is black. `features` are composited instead of colours, any
    number of channels. Gaussians where `mask` is False are left out. Of a single camera
    (`cameras[i]`) the output has no axis v. ValueError names what does not fit.
    """
    settings = settings or RasterizeSettings()
    if cameras.viewmats.ndim == gaussians.means.ndim:  # one camera, without the axis v
        cameras = cameras.map(lambda tensor: tensor.unsqueeze(-3))
        backgrounds = None if backgrounds is None else backgrounds[..., None, :]
        return rasterize(
            gaussians, cameras, backgrounds, settings, features=features, mask=mask, backend=backend
        )[0]
    name = choose_backend(gaussians) if backend == "auto" else backend
    if name not in BACKENDS:
        raise ValueError(f"unknown rasterizer backend {name!r}; known: {', '.join(BACKENDS)}")
    _check(gaussians, cameras, settings, features, mask)
    output = BACKENDS[name]()(gaussians, cameras, settings, features, mask)
    if settings.require_finite and bool((output.nonfinite > 0).any()):
        raise ValueError(
            f"{int(output.nonfinite.max())} Gaussians have NaN or infinite values; "
            "find them with Gaussians.validate()"
        )
    if backgrounds is None or settings.render_mode == "D":
        return output
    return replace(output, rgb=output.rgb + (1 - output.alpha) * backgrounds[..., None, None])


def _check(
    gaussians: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings,
    features: Tensor | None,
    mask: Tensor | None,
) -> None:
    """ValueError for what every backend would stumble over."""
    batch, count = gaussians.means.shape[:-2], len(gaussians)
    if gaussians.means.dtype != cameras.viewmats.dtype:
        raise ValueError(
            f"Gaussians are {gaussians.means.dtype} but cameras {cameras.viewmats.dtype}; cast one"
        )
    if gaussians.device != cameras.device:
        raise ValueError(
            f"Gaussians are on {gaussians.device} but cameras on {cameras.device}; move one"
        )
    views = (*batch, len(cameras))
    shapes = {
        "quats": (gaussians.quats, (*batch, count, 4)),
        "scales": (gaussians.scales, (*batch, count, 3)),
        "opacities": (gaussians.opacities, (*batch, count)),
        "sh": (gaussians.sh, (*batch, count, (gaussians.sh_degree + 1) ** 2, 3)),
        "viewmats": (cameras.viewmats, (*views, 4, 4)),
        "Ks": (cameras.Ks, (*views, 3, 3)),
        "features": (features, (*batch, count, features.shape[-1] if features is not None else 0)),
        "mask": (mask, (*batch, count)),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}, expected torch.bool")
    if cameras.width < 1 or cameras.height < 1:
        raise ValueError(f"pictures of {cameras.width} x {cameras.height} px cannot be rendered")
    for name, tensor in (("viewmats", cameras.viewmats), ("Ks", cameras.Ks)):
        # On a GPU the question would wait for everything before it.
        if tensor.device.type == "cpu" and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"cameras have NaN or infinite {name}")
    if settings.render_mode not in ("RGB", "D", "RGB+D"):
        raise ValueError(f"render_mode {settings.render_mode!r}: expected RGB, D or RGB+D")
