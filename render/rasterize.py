"""The entry point of the rasterizer: Gaussians and cameras in, images out."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from render.arguments import check_arguments, is_single_camera
from render.cameras import Cameras
from render.gaussians import Gaussians
from render.types import NEAR, Backend, RasterizeSettings, RenderOutput

# Largest depth of the near plane, in radii of the scene, and the least number of Gaussians that the
# radius is measured with in larger ones.
NEAR_RADII, NEAR_SAMPLES = 0.02, 256
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


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


def near_plane(gaussians: Gaussians) -> float:
    """Return the depth of the near plane that suits a scene, or those of a batch (world units).

    gsplat's 0.01 would hide a scene of millimetres. In scenes whose radius is below half a unit the
    plane is nearer, in proportion; on a GPU this waits for the positions.
    """
    means = gaussians.means.detach()
    if means.numel() == 0:
        return NEAR
    means = means.reshape(-1, *means.shape[-2:])
    part = means[:, :: max(1, means.shape[1] // NEAR_SAMPLES)]
    # Gaussians with such positions are left out of the render, and so are they here.
    finite = torch.isfinite(part).all(-1, keepdim=True)
    part = torch.where(finite, part, torch.nan)
    away = part - part.nanmedian(1, keepdim=True).values
    # NaN where nothing is finite, which no comparison chooses.
    radii = away.norm(dim=-1).nanmedian(1).values
    return float(min([NEAR, *(NEAR_RADII * radii[radii > 0]).tolist()]))


def with_near_plane(settings: RasterizeSettings | None, gaussians: Gaussians) -> RasterizeSettings:
    """Return settings with a near plane: the given one, or that of the scene."""
    settings = RasterizeSettings() if settings is None else settings
    if settings.near is not None:
        return settings
    return replace(settings, near=near_plane(gaussians))


def choose_backend(gaussians: Gaussians) -> str:
    """Return the name of the fastest backend for these tensors; float64 runs on the reference."""
    if gaussians.means.dtype == torch.float64:
        return "reference"
    return "cuda" if gaussians.device.type == "cuda" else "cpu"


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    backgrounds: Float[Tensor, "*v c"] | None = None,
    settings: RasterizeSettings | None = None,
    channels: Float[Tensor, "*b n c"] | None = None,
    mask: Bool[Tensor, "*b n"] | None = None,
    backend: str = "auto",
) -> RenderOutput:
    """Render the Gaussians into every camera (Kerbl et al. 2023, eq. 3).

    Differentiable with respect to every tensor of the Gaussians, `channels`, the view matrices
    and `backgrounds`; not with respect to Ks. First derivatives only: use backend="reference" for
    second ones. Ordinary pinhole cameras only. Under torch.compile it runs eagerly, as a graph
    break; fullgraph=True is an error.

    Args:
        gaussians: world frame, [*b n]; batch axes are separate scenes. Indices select Gaussians and
            cameras; `.map(lambda tensor: tensor[0])` takes the first scene of a batch.
        cameras: [*b v], every camera renders its own scene; or a single camera [*b], as
            `cameras[i]` gives, and then the output has no axis v.
        backgrounds: colour behind the Gaussians, per camera or [c] for all; black by default. Not
            used in mode "D".
        settings: thresholds and what to render; gsplat's defaults.
        channels: composited instead of the colours of the SH, any number of them.
        mask: Gaussians where it is False are left out.
        backend: "cpu", "cuda" (gsplat; both float32), "reference" (torch, slow, float32 or float64
            on any device), or "auto" for the fastest that takes these tensors.

    Raises:
        TypeError, ValueError: an argument does not fit; names it, what it is and what is expected.
        BackendUnavailable: the backend cannot run on this machine; says what to do.

    Example:
        >>> import torch
        >>> from render import Cameras, Gaussians, rasterize
        >>> gaussians = Gaussians(
        ...     means=torch.tensor([[0.0, 0.0, 2.0], [0.5, 0.0, 3.0]]),
        ...     quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(2, 4),
        ...     scales=torch.full((2, 3), 0.1),
        ...     opacities=torch.full((2,), 0.9),
        ...     sh=torch.zeros(2, 1, 3),  # grey
        ... )
        >>> cameras = Cameras.from_fov(torch.eye(4)[None], fov_deg=60.0, width=64, height=48)
        >>> output = rasterize(gaussians, cameras, backgrounds=torch.ones(3))
        >>> output
        RenderOutput(rgb=float32[1, 3, 48, 64] cpu, alpha=float32[1, 1, 48, 64] cpu, \
depth=float32[1, 1, 48, 64] cpu, nonfinite=int64[1] cpu, absgrad=None)
        >>> rasterize(gaussians, cameras[0]).expected_depth[0, 24, 32].round(decimals=3)
        tensor(2.)

        A batch of scenes, each with its own cameras:

        >>> scenes = gaussians.map(lambda tensor: torch.stack([tensor, tensor]))
        >>> views = cameras.map(lambda tensor: torch.stack([tensor, tensor]))
        >>> images = rasterize(scenes, views)
        >>> images.rgb.shape
        torch.Size([2, 1, 3, 48, 64])
        >>> images.map(lambda tensor: tensor[0]).rgb.shape  # of the first scene
        torch.Size([1, 3, 48, 64])

        The colours that one camera sees, and more channels:

        >>> from render import sh_to_colors
        >>> dirs = torch.nn.functional.normalize(gaussians.means - cameras[0].centers, dim=-1)
        >>> features = torch.rand(2, 5)
        >>> channels = torch.cat([sh_to_colors(gaussians.sh, dirs), features], -1)
        >>> rasterize(gaussians, cameras[0], channels=channels).rgb.shape
        torch.Size([8, 48, 64])
    """
    if torch.compiler.is_compiling():
        return outside_of_graphs(rasterize)(
            gaussians,
            cameras,
            backgrounds=backgrounds,
            settings=settings,
            channels=channels,
            mask=mask,
            backend=backend,
        )
    check_arguments(
        gaussians, cameras, settings or RasterizeSettings(), channels, mask, backgrounds
    )
    settings = with_near_plane(settings, gaussians)
    if backend == "auto":
        backend = choose_backend(gaussians)
        if backend == "reference":
            _warn_of_reference()
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of: auto, {', '.join(BACKENDS)}")
    single = is_single_camera(gaussians, cameras)
    if single:
        cameras = cameras.map(lambda tensor: tensor.unsqueeze(-3))
        backgrounds = None if backgrounds is None else backgrounds[..., None, :]
    output = BACKENDS[backend]()(gaussians, cameras, settings, channels, mask)
    if settings.require_finite and bool((output.nonfinite > 0).any()):
        raise ValueError(
            f"{int(output.nonfinite.max())} Gaussians have NaN or infinite values; "
            "find them with Gaussians.validate()"
        )
    if backgrounds is not None and settings.render_mode != "D":
        behind = (1 - output.alpha) * backgrounds[..., None, None]
        output = replace(output, rgb=output.rgb + behind)
    return output[0] if single else output


def outside_of_graphs(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make torch.compile call a function uncompiled, between two graphs.

    The CPU kernel is not a torch.library.custom_op: its backward pass needs what the forward pass
    has sorted and binned, which is not a tensor and must be freed with the graph; computing it
    twice would cost a third of a forward pass. Left alone, the compiler would trace the calls of
    ctypes in a dozen pieces. As a decorator this would import the compiler (seconds) for all users.
    """
    eager: Callable[Arguments, Result] = torch.compiler.disable(
        function, reason="the rasterizer is not a graph of torch operators"
    )
    return eager


@functools.cache
def _warn_of_reference() -> None:
    """Warn once per process that the slow reference backend is in use."""
    warnings.warn(
        "float64 Gaussians are rendered by the reference backend, some 100 times slower than "
        'float32 ones; use .to(torch.float32), or backend="reference" if that is intended',
        stacklevel=3,
    )
