"""The CUDA rasterizer: gsplat behind our interface, and everything that depends on its version."""

import functools
from types import ModuleType

import torch
from torch import Tensor

from render.cameras import Cameras
from render.gaussians import Gaussians
from render.types import BackendUnavailable, RasterizeSettings, RenderOutput

REMEDY = (
    "use the CPU (device='cpu', or tensors moved with .to('cpu')), or pip install "
    "'reconsplat[cuda]' beside a CUDA build of torch"
)
DEVICE = "cuda"
# Constants compiled into gsplat, by its minor version. The one after 1.5 clamps alpha at
# 0.99 and the antialiasing factor from below at 0.005: other images, so it is not accepted.
COMPILED = {"1.5": {"alpha_max": 0.999, "alpha_min": 1 / 255, "transmittance_min": 1e-4}}


def rasterize_cuda(
    gaussians: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings,
    channels: Tensor | None,
    mask: Tensor | None,
) -> RenderOutput:
    """Render every batch entry and camera; see `render.rasterize`.

    `nonfinite` counts every Gaussian with NaN or infinite values, seen or not.
    """
    gsplat = _load()
    _check(gaussians, settings, gsplat.__version__)
    colors = gaussians.sh if channels is None else channels
    finite = _finite(gaussians, colors)
    kept = finite if mask is None else finite & mask
    views = len(cameras)
    image, alpha, meta = gsplat.rasterization(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        # Below the smallest alpha nothing is computed for a Gaussian, not even a gradient.
        opacities=torch.where(kept, gaussians.opacities, 0),
        colors=colors,
        viewmats=cameras.viewmats,
        Ks=cameras.Ks,
        width=cameras.width,
        height=cameras.height,
        near_plane=settings.near,
        far_plane=settings.far,
        radius_clip=settings.radius_clip,
        eps2d=settings.eps2d,
        sh_degree=gaussians.sh_degree if channels is None else None,
        # Packed lists avoid a copy of SH per view; absgrad needs unpacked ones.
        packed=views > 1 and not settings.absgrad,
        render_mode=settings.render_mode,
        absgrad=settings.absgrad,
        rasterize_mode="antialiased" if settings.antialiased else "classic",
    )
    absgrad = _absgrad(meta["means2d"]) if settings.absgrad else None
    image, alpha = image.movedim(-1, -3), alpha.movedim(-1, -3)
    width = image.shape[-3] - (settings.render_mode != "RGB")
    wanted = torch.ones_like(finite) if mask is None else mask
    nonfinite = (~finite & wanted).sum(-1)[..., None].expand(cameras.viewmats.shape[:-2])
    return RenderOutput(
        rgb=image[..., :width, :, :],
        alpha=alpha,
        depth=image[..., width:, :, :],
        nonfinite=nonfinite,
        absgrad=absgrad,
    )


def unavailable() -> str | None:
    """Say why this backend cannot run here, in one line with the remedy; None if it can."""
    try:
        _load()
    except BackendUnavailable as error:
        return str(error)
    return None


@functools.cache
def _load() -> ModuleType:
    """Import gsplat with its kernels; raise BackendUnavailable if something is missing."""
    # Checked first: without a GPU gsplat tries to build its kernels, with an obscure error.
    if not torch.cuda.is_available():
        raise BackendUnavailable(f"torch {torch.__version__} sees no CUDA GPU; {REMEDY}")
    try:
        import gsplat
    except ImportError as error:
        raise BackendUnavailable(f"gsplat cannot be imported ({error}); {REMEDY}") from None
    try:
        from gsplat.cuda._backend import _C
    except Exception as error:  # whatever a compiler run may raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise BackendUnavailable(f"gsplat's kernels do not build ({first}); {REMEDY}") from None
    if _C is None:
        raise BackendUnavailable(
            "gsplat has no compiled kernels and found no CUDA toolkit to build them; install the "
            f"gsplat wheel that fits torch {torch.__version__}, or a toolkit with nvcc; {REMEDY}"
        )
    return gsplat


def _check(gaussians: Gaussians, settings: RasterizeSettings, version: str) -> None:
    """Raise ValueError for settings that these kernels do not support."""
    if gaussians.means.dtype != torch.float32 or gaussians.device.type != DEVICE:
        raise ValueError(
            "the cuda rasterizer needs float32 tensors on a CUDA device; means is "
            f"{gaussians.means.dtype} on {gaussians.device}"
        )
    minor = ".".join(version.split(".")[:2])
    if minor not in COMPILED:
        raise BackendUnavailable(
            f"gsplat {version} is not one recon knows ({', '.join(COMPILED)}.x); {REMEDY}"
        )
    for name, compiled in COMPILED[minor].items():
        if getattr(settings, name) != compiled:
            raise ValueError(
                f"{name} is {getattr(settings, name)}, but gsplat {version} was compiled with "
                f"{compiled}; use backend 'reference'"
            )


def _finite(gaussians: Gaussians, colors: Tensor) -> Tensor:
    """Find Gaussians whose values are all finite, [*b n]: a sum is finite only if its terms are."""
    total = gaussians.means.sum(-1) + gaussians.quats.sum(-1) + gaussians.scales.sum(-1)
    flat = colors.flatten(gaussians.means.dim() - 1)
    return torch.isfinite(total + gaussians.opacities + flat.sum(-1))


def _absgrad(means2d: Tensor) -> Tensor:
    """Make a tensor that receives gsplat's absgrad once the backward pass has reached means2d."""
    out = torch.zeros_like(means2d)

    def receive(_: Tensor) -> None:
        out.copy_(means2d.absgrad)  # type: ignore[attr-defined]

    if means2d.requires_grad:
        means2d.register_hook(receive)
    return out
