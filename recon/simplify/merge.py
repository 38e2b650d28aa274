"""Merging of Gaussians: clusters on a surface, and moment matching."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Gaussians, RasterizeSettings
from render.footprints import Footprints
from render.quaternions import rotmats_to_quats

# Opacity above which absorption is not told apart: -log(1 - opacity) diverges at 1.
MAX_OPACITY = 0.99
# Variance that the rasterizer adds to every Gaussian in the image (px^2).
BLUR_PX2 = RasterizeSettings().eps2d
# Depth of a cluster in units of its width: parts of deeper ones shift against each other when
# seen from elsewhere.
DEPTH_RATIO = 1.0


def clusters(footprints: Footprints, size_px: float) -> Int[Tensor, "n"]:
    """Assign points to clusters, numbered from 0 without gaps.

    A cluster is a square of `size_px` pixels of the camera that sees its points at the highest
    resolution, DEPTH_RATIO times as deep: the Gaussians of all views of one surface patch meet in
    one cluster, and blocks of pixels stay whole. A point that no camera sees is a cluster of its
    own.
    """
    seen = footprints.size > 0
    square = (footprints.pixels / size_px).floor().long()
    focal = footprints.depth / footprints.size.clamp_min(1e-30)
    # Logarithmic: a layer is as thick in pixels at every depth.
    layer = footprints.depth.clamp_min(1e-30).log() * focal / (DEPTH_RATIO * size_px)
    unseen_index = torch.arange(len(seen), device=seen.device)
    columns = [
        torch.where(seen, -1, unseen_index), footprints.camera, *square.T, layer.floor().long()
    ]  # fmt: skip
    return _row_ids(columns)


def _row_ids(columns: list[Int[Tensor, "n"]]) -> Int[Tensor, "n"]:
    """Number the distinct rows of a table from 0 without gaps."""
    ids = torch.zeros_like(columns[0])
    for column in columns:
        # Without gaps, so that the product of all spans does not overflow.
        _, column = torch.unique(column, return_inverse=True)
        _, ids = torch.unique(ids * (int(column.max()) + 1) + column, return_inverse=True)
    return ids


def merge(
    gaussians: Gaussians,
    footprints: Float[Tensor, "n"],
    groups: Int[Tensor, "n"],
    count: int,
) -> Gaussians:
    """Merge each group into one Gaussian by matching moments.

    Mean, covariance and colour are those of the mixture, each member weighted by what it absorbs:
    -log(1 - opacity) times its area in the image. The group absorbs as much as its members
    together, so two Gaussians at one position transmit what they did one behind the other.

    Args:
        gaussians: Gaussians to merge.
        footprints: Size of a pixel at each Gaussian (world units), which the rasterizer's blur is
            a multiple of.
        groups: Index of each Gaussian's group.
        count: Number of groups, none of them empty.
    """
    density = -torch.log1p(-gaussians.opacities.clamp(1e-6, MAX_OPACITY))
    weight = density * _area(gaussians.scales, footprints)
    total = group_sums(weight, groups, count)
    fraction = weight / total[groups]
    mean = group_sums(fraction[:, None] * gaussians.means, groups, count)
    offset = gaussians.means - mean[groups]
    spread = gaussians.covars() + offset[:, :, None] * offset[:, None, :]
    covars = group_sums(fraction[:, None, None] * spread, groups, count)
    quats, scales = _axes(covars)
    area = _area(scales, group_sums(fraction * footprints, groups, count))
    opacity = -torch.expm1(-total / area)
    sh = group_sums(fraction[:, None, None] * gaussians.sh, groups, count)
    return Gaussians(mean, quats, scales, opacity.clamp_max(MAX_OPACITY), sh)


def _area(scales: Float[Tensor, "n 3"], footprints: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Compute the rendered area of the disc of the two longer axes, up to a constant factor."""
    variances = scales.sort(-1).values.square() + BLUR_PX2 * footprints.square()[:, None]
    return (variances[:, 1] * variances[:, 2]).sqrt().clamp_min(1e-30)


def _axes(covars: Float[Tensor, "m 3 3"]) -> tuple[Float[Tensor, "m 4"], Float[Tensor, "m 3"]]:
    """Decompose covariances into quaternions and scales."""
    # Relative to their own size: squares of small scales would vanish in float32.
    size = covars.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-30)
    values, vectors = torch.linalg.eigh(covars / size[:, None, None])
    scales = (values.clamp_min(1e-8) * size[:, None]).sqrt()
    # Eigenvectors may form a mirrored frame.
    mirrored = torch.linalg.det(vectors) < 0
    vectors = torch.where(mirrored[:, None, None], -vectors, vectors)
    return rotmats_to_quats(vectors), scales


def group_sums(
    values: Float[Tensor, "n *k"], groups: Int[Tensor, "n"], count: int
) -> Float[Tensor, "m *k"]:
    """Sum the values of each group's members."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, groups, values)
