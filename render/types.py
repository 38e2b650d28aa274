"""Settings and outputs of the rasterizer, shared by its entry and its backends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from render.cameras import Cameras
from render.gaussians import Gaussians
from render.tensors import TensorStruct

# Depth of the near plane in scenes of ordinary size (world units), gsplat's default.
NEAR = 0.01


@dataclass(frozen=True)
class RasterizeSettings:
    """Settings of gsplat's `rasterization`, with its defaults (version 1.5.3)."""

    near: float | None = None
    """Gaussians nearer than this depth are left out (world units). None stands for gsplat's 0.01,
    or less in a scene of less than a unit (see `near_plane`)."""
    far: float = 1e10
    """Gaussians farther than this depth are left out (world units)."""
    eps2d: float = 0.3
    """Added to the diagonal of the image covariance (px^2)."""
    radius_clip: float = 0.0
    """Gaussians whose radius is at most this are left out (px)."""
    antialiased: bool = False
    """Lower the opacity of Gaussians that eps2d widens (Mip-Splatting, Yu et al. 2024, eq. 9)."""
    alpha_max: float = 0.999
    """Largest alpha of one Gaussian at one pixel."""
    alpha_min: float = 1 / 255
    """Smaller alphas contribute nothing."""
    transmittance_min: float = 1e-4
    """A pixel is done when a Gaussian would bring its transmittance to this or below."""
    render_mode: Literal["RGB", "D", "RGB+D"] = "RGB+D"
    """Colours, depth or both. gsplat's "ED" modes are `RenderOutput.expected_depth`."""
    absgrad: bool = False
    """Also measure `RenderOutput.absgrad` in the backward pass, for density control."""
    require_finite: bool = False
    """Raise ValueError when a Gaussian is left out for NaN or infinite values; on a GPU this waits
    for the result."""


@dataclass(frozen=True)
class RenderOutput(TensorStruct, axis="v"):
    """Images of one call, display sRGB."""

    rgb: Float[Tensor, "*v c h w"]
    """Colours (c = 3) or `channels`; c = 0 in mode "D"."""
    alpha: Float[Tensor, "*v 1 h w"]
    """Opacity, 1 minus the final transmittance."""
    depth: Float[Tensor, "*v d h w"]
    """Accumulated depth, sum of weight times z (gsplat's "D"); d = 1, or 0 in mode "RGB"."""
    nonfinite: Int[Tensor, "*v"]
    """Number of Gaussians left out because a value is NaN or infinite, or becomes so in
    projection. Colours count only where the Gaussian would be visible."""
    absgrad: Float[Tensor, "*v n 2"] | None = None
    """Sum over pixels of |dL/d(projected mean)| in 1/px, for density control (AbsGS, Ye et
    al. 2024, eq. 6). Zero until the backward pass has filled it."""

    @property
    def expected_depth(self) -> Float[Tensor, "*v d h w"]:
        """Mean z, weighted as the colours are (gsplat's "ED"); 0 where there is nothing."""
        return self.depth / self.alpha.clamp_min(1e-10)


class BackendUnavailable(RuntimeError):
    """A backend cannot run on this machine; the message is one line with the remedy."""


class OutOfMemory(BackendUnavailable, MemoryError):
    """A backend ran out of memory in this call; the message is one line with the remedy."""


Backend = Callable[
    [Gaussians, Cameras, RasterizeSettings, Tensor | None, Tensor | None], RenderOutput
]
