"""The one entry of the rasterizer: Gaussians and cameras in, pictures out."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
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


@dataclass(frozen=True)
class RenderOutput:
    """Pictures of one call, display sRGB."""

    rgb: Float[Tensor, "*b v 3 h w"]
    alpha: Float[Tensor, "*b v 1 h w"]
    depth: Float[Tensor, "*b v 1 h w"]
    """Accumulated depth, sum of weight times z (gsplat's "D")."""

    @property
    def expected_depth(self) -> Float[Tensor, "*b v 1 h w"]:
        """Mean z of what is seen (gsplat's "ED"); 0 where nothing is."""
        return self.depth / self.alpha.clamp_min(1e-10)


Backend = Callable[[Gaussians, Cameras, RasterizeSettings], RenderOutput]


def _reference() -> Backend:
    from render.backends.reference import rasterize_reference

    return rasterize_reference


BACKENDS: dict[str, Callable[[], Backend]] = {"reference": _reference}


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    backgrounds: Float[Tensor, "*b v 3"] | None = None,
    settings: RasterizeSettings | None = None,
    backend: str = "reference",
) -> RenderOutput:
    """Pictures of the Gaussians in every camera (3D Gaussian Splatting, eq. 3).

    Differentiable with respect to every tensor of the Gaussians, the view matrices
    and the backgrounds; not with respect to Ks. Gaussians and cameras share their
    batch axes, device and dtype. The background shows through where alpha is below 1;
    without one it is black.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown rasterizer backend {backend!r}; known: {', '.join(BACKENDS)}")
    if gaussians.means.dtype != cameras.viewmats.dtype:
        raise ValueError(
            f"Gaussians are {gaussians.means.dtype} but cameras {cameras.viewmats.dtype}; cast one"
        )
    output = BACKENDS[backend]()(gaussians, cameras, settings or RasterizeSettings())
    if backgrounds is None:
        return output
    rgb = output.rgb + (1 - output.alpha) * backgrounds[..., None, None]
    return RenderOutput(rgb, output.alpha, output.depth)
