"""Several Gaussians as one, by matching moments."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Gaussians, RasterizeSettings
from render.quaternions import rotmats_to_quats

MAX_OPACITY = 0.99
# What the rasterizer adds to every Gaussian's variance in a picture (px^2).
BLUR_PX2 = RasterizeSettings().eps2d


def merge(
    gaussians: Gaussians,
    footprints: Float[Tensor, "n"],
    groups: Int[Tensor, "n"],
    count: int,
) -> Gaussians:
    """One Gaussian for each of `count` groups, none of them empty.

    Mean, covariance and colour are those of the mixture, each member weighed by what it absorbs:
    -log(1 - opacity) times its area in a picture. The group absorbs as much as its members
    together, so that two at one place let through what they did one behind the other.
    `footprints` are the sizes of a pixel (world units), which the rasterizer's blur adds to.
    """
    density = -torch.log1p(-gaussians.opacities.clamp(1e-6, MAX_OPACITY))
    weight = density * _area(gaussians.scales, footprints)
    total = sums(weight, groups, count)
    share = weight / total[groups]
    mean = sums(share[:, None] * gaussians.means, groups, count)
    away = gaussians.means - mean[groups]
    spread = gaussians.covars() + away[:, :, None] * away[:, None, :]
    covars = sums(share[:, None, None] * spread, groups, count)
    quats, scales = _axes(covars)
    area = _area(scales, sums(share * footprints, groups, count))
    opacity = -torch.expm1(-total / area)
    sh = sums(share[:, None, None] * gaussians.sh, groups, count)
    return Gaussians(mean, quats, scales, opacity.clamp_max(MAX_OPACITY), sh)


def _area(scales: Float[Tensor, "n 3"], footprints: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Of the disc that the two longer axes span, as drawn, up to a factor."""
    drawn = scales.sort(-1).values.square() + BLUR_PX2 * footprints.square()[:, None]
    return (drawn[:, 1] * drawn[:, 2]).sqrt().clamp_min(1e-30)


def _axes(covars: Float[Tensor, "m 3 3"]) -> tuple[Float[Tensor, "m 4"], Float[Tensor, "m 3"]]:
    """Orientation and standard deviations."""
    # Relative to their own size: squares of small scales would vanish in float32.
    size = covars.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-30)
    values, vectors = torch.linalg.eigh(covars / size[:, None, None])
    scales = (values.clamp_min(1e-8) * size[:, None]).sqrt()
    # Eigenvectors may form a mirrored frame.
    mirrored = torch.linalg.det(vectors) < 0
    vectors = torch.where(mirrored[:, None, None], -vectors, vectors)
    return rotmats_to_quats(vectors), scales


def sums(
    values: Float[Tensor, "n *k"], groups: Int[Tensor, "n"], count: int
) -> Float[Tensor, "m *k"]:
    """Of each group's members."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, groups, values)
