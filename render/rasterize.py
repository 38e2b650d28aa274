"""The one entry of the rasterizer: Gaussians and cameras in, pictures out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.cameras import Cameras
from render.gaussians import Gaussians


@dataclass(frozen=True)
class RasterizeSettings:
    """What gsplat's `rasterization` takes, with its defaults (version 1.5.3)."""

    near: float = 0.01
    """Gaussians nearer than this depth are left out (world units)."""
    far: float = 1e10
    """Gaussians farther than this depth are left out (world units)."""
    eps2d: float = 0.3
    """Added to the diagonal of the picture covariance (px^2)."""
    radius_clip: float = 0.0
    """Gaussians whose radius is at most this are left out (px)."""
    antialiased: bool = False
    """Lower the opacity of Gaussians that eps2d widens (Mip-Splatting, Yu et al. 2024, eq. 9)."""
    alpha_max: float = 0.999
    """Largest alpha of one Gaussian at one pixel."""
    alpha_min: float = 1 / 255
    """Smaller alphas draw nothing."""
    transmittance_min: float = 1e-4
    """A pixel is done when a Gaussian would bring its transmittance to this or below."""
    render_mode: Literal["RGB", "D", "RGB+D"] = "RGB+D"
    """What to composite. gsplat's "ED" modes are `RenderOutput.expected_depth`."""
    absgrad: bool = False
    """Also measure `RenderOutput.absgrad` in the backward pass."""
    require_finite: bool = False
    """Raise ValueError when a Gaussian was dropped for NaN or infinite values."""


@dataclass(frozen=True)
class RenderOutput:
    """Pictures of one call, display sRGB."""

    rgb: Float[Tensor, "*b v c h w"]
    """Colours (c = 3) or features; c = 0 in mode "D"."""
    alpha: Float[Tensor, "*b v 1 h w"]
    depth: Float[Tensor, "*b v d h w"]
    """Accumulated depth, sum of weight times z (gsplat's "D"); d = 1, or 0 in mode "RGB"."""
    nonfinite: Int[Tensor, "*b v"]
    """Gaussians left out because a value of theirs is NaN or infinite, or becomes so on
    the way to the picture. Colours count only where the Gaussian would be seen."""
    absgrad: Float[Tensor, "*b v n 2"] | None = None
    """Sum over pixels of |dL/d(projected mean)| in 1/px, for density control (AbsGS, Ye et
    al. 2024, eq. 6). Zero until the backward pass has filled it."""

    @property
    def expected_depth(self) -> Float[Tensor, "*b v d h w"]:
        """Mean z of what is seen (gsplat's "ED"); 0 where nothing is."""
        return self.depth / self.alpha.clamp_min(1e-10)


class BackendUnavailable(RuntimeError):
    """A backend cannot run on this machine; the message is one line with the remedy."""


Backend = Callable[
    [Gaussians, Cameras, RasterizeSettings, Tensor | None, Tensor | None], RenderOutput
]


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
    backgrounds: Float[Tensor, "*b v c"] | None = None,
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
    number of channels. Gaussians where `mask` is False are left out. ValueError names
    what does not fit.
    """
    settings = settings or RasterizeSettings()
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
