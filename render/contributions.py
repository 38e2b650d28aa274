"""Contributions of each Gaussian to a set of images, for pruning."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.arguments import check_arguments, is_single_camera
from render.cameras import Cameras
from render.gaussians import Gaussians
from render.rasterize import outside_of_graphs, with_near_plane
from render.tensors import TensorStruct
from render.types import RasterizeSettings


@dataclass(frozen=True)
class Contributions(TensorStruct, axis="n"):
    """Weights w = alpha * transmittance of each Gaussian over all pixels of all views."""

    weight_sum: Float[Tensor, "*n"]
    """Sum of the weights."""
    weight_max: Float[Tensor, "*n"]
    """Largest weight at one pixel."""
    hits: Int[Tensor, "*n"]
    """Number of pixels, over all views, with a weight above 0."""


def measure_contributions(
    gaussians: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings | None = None,
    mask: Bool[Tensor, "*b n"] | None = None,
) -> Contributions:
    """Measure the weights of Gaussians in images of these cameras (LightGaussian, Fan et al. 2024).

    Runs on the CPU kernel wherever the tensors are: gsplat does not measure this, and
    pruning needs it once. The result is on the Gaussians' device.
    """
    from render.backends.cpu import contributions_cpu

    if torch.compiler.is_compiling():
        return outside_of_graphs(measure_contributions)(gaussians, cameras, settings, mask)
    check_arguments(gaussians, cameras, settings or RasterizeSettings(), mask=mask)
    settings = with_near_plane(settings, gaussians)
    device = gaussians.device
    if is_single_camera(gaussians, cameras):
        cameras = cameras.map(lambda tensor: tensor.unsqueeze(-3))
    found = contributions_cpu(
        gaussians.to("cpu", torch.float32),
        cameras.to("cpu", torch.float32),
        settings,
        None if mask is None else mask.cpu(),
    )
    weight_sum, weight_max, hits = (t.to(device) for t in found)
    return Contributions(weight_sum, weight_max, hits)
