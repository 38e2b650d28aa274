"""The reference: a plain torch rasterizer with gsplat's semantics, float64-capable.

Slow and exact. There are no tiles: the list of (Gaussian, pixel) pairs that may contribute
is built for a band of rows at a time, sorted by pixel and depth, and composited with
a segmented product. Bands are sized by a budget of pairs, and recomputed in the
backward pass, so that memory stays bounded.
"""

import math
import operator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from render import projection
from render.cameras import Cameras
from render.gaussians import Gaussians
from render.sh import sh_to_colors
from render.types import RasterizeSettings, RenderOutput

PAIRS_PER_BAND = 1_500_000


@dataclass(frozen=True)
class _Splats:
    """Visible Gaussians of one camera, nearest first."""

    means2d: Float[Tensor, "n 2"]
    conics: Float[Tensor, "n 3"]
    opacities: Float[Tensor, " n"]
    values: Float[Tensor, "n c"]
    """Colour, depth and 1: the channels to composite."""
    extents_px: Float[Tensor, "n 2"]
    index: Int[Tensor, " n"]
    """Index of each in the scene."""
    nonfinite: int


def rasterize_reference(
    gaussians: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings,
    channels: Tensor | None,
    mask: Tensor | None,
) -> RenderOutput:
    """Render every batch entry and camera; see `render.rasterize`."""
    batch = gaussians.means.shape[:-2]
    views, entries = len(cameras), math.prod(batch)

    def flat(tensor: Tensor) -> Tensor:
        return tensor.reshape(entries, *tensor.shape[len(batch) :])

    scenes = gaussians.map(flat)
    viewmats, Ks = flat(cameras.viewmats), flat(cameras.Ks)
    size = (cameras.width, cameras.height)
    absgrad = gaussians.means.new_zeros(entries, views, len(gaussians), 2)
    images, nonfinite = [], []
    for b in range(entries):
        scene = scenes.map(operator.itemgetter(b))
        values = None if channels is None else flat(channels)[b]
        kept = None if mask is None else flat(mask)[b]
        for v in range(views):
            splats = _project(scene, viewmats[b, v], Ks[b, v], size, settings, values, kept)
            sums = absgrad[b, v] if settings.absgrad else None
            images.append(_composite(splats, size, settings, sums))
            nonfinite.append(splats.nonfinite)
    width = images[0].shape[0]
    stacked = torch.stack(images).reshape(*batch, views, width, size[1], size[0])
    rgb, depth, alpha = stacked.split([width - 2, 1, 1], -3)
    return RenderOutput(
        rgb,
        alpha,
        depth[..., :0, :, :] if settings.render_mode == "RGB" else depth,
        torch.tensor(nonfinite, device=gaussians.device).reshape(*batch, views),
        absgrad.reshape(*batch, *absgrad.shape[1:]) if settings.absgrad else None,
    )


def _project(
    gaussians: Gaussians,
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    settings: RasterizeSettings,
    channels: Float[Tensor, "n c"] | None = None,
    mask: Bool[Tensor, " n"] | None = None,
) -> _Splats:
    """Cull, project, colour and sort by depth, with gsplat's rules."""
    rotmat, translation = viewmat[:3, :3], viewmat[:3, 3]
    depth = (gaussians.means @ rotmat.T + translation)[:, 2]
    sane = _finite(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None])
    wanted = torch.ones_like(sane) if mask is None else mask
    assert settings.near is not None
    inside = sane & wanted & (depth >= settings.near) & (depth <= settings.far)
    index = inside.nonzero()[:, 0]
    with torch.no_grad():
        means2d, covars2d, _ = _projected(gaussians[index], viewmat, K, size, settings)
        # Finite values may still overflow during projection, which must not reach the gradients.
        fits = _finite(means2d, torch.det(covars2d)[:, None])
    nonfinite = int((~sane & wanted).sum()) + int((~fits).sum())
    index = index[fits]
    scene = gaussians[index]
    means2d, covars2d, factor = _projected(scene, viewmat, K, size, settings)
    local = scene.means @ rotmat.T + translation
    opacities = scene.opacities * factor if settings.antialiased else scene.opacities
    with torch.no_grad():
        extents_px, visible = _visible(means2d, covars2d, opacities, size, settings)
        seen = visible.nonzero()[:, 0]

    # Only visible Gaussians get a colour: NaN elsewhere must not reach the gradients.
    if settings.render_mode == "D":
        colors = means2d.new_zeros(len(seen), 0)
    elif channels is None:
        dirs = scene.means[seen] + rotmat.T @ translation
        colors = sh_to_colors(scene.sh[seen], torch.nn.functional.normalize(dirs, dim=-1))
    else:
        colors = channels[index[seen]]
    good = _finite(colors)
    nonfinite += int((~good).sum())
    order = torch.argsort(local[seen[good], 2].detach(), stable=True)
    colors, seen = colors[good][order], seen[good][order]
    values = torch.cat([colors, local[seen, 2:], torch.ones_like(local[seen, :1])], -1)
    conics = projection.conics_of(covars2d[seen])
    return _Splats(
        means2d[seen], conics, opacities[seen], values, extents_px[seen], index[seen], nonfinite
    )


def _projected(
    scene: Gaussians,
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    settings: RasterizeSettings,
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2 2"], Float[Tensor, " n"]]:
    """Compute means and widened covariances in the image (px), and the antialiasing factor."""
    rotmat = viewmat[:3, :3]
    local = scene.means @ rotmat.T + viewmat[:3, 3]
    jacobian = projection.projection_jacobian(local, K, *size)
    covars2d = projection.project_covars(scene.covars(), jacobian, rotmat)
    focal = torch.stack([K[0, 0], K[1, 1]])
    means2d = local[:, :2] / local[:, 2:] * focal + K[:2, 2]
    return means2d, *projection.widen(covars2d, settings.eps2d)


def _finite(*tensors: Float[Tensor, "n _"]) -> Bool[Tensor, " n"]:
    return torch.isfinite(torch.cat(tensors, -1)).all(-1)


def _visible(
    means2d: Float[Tensor, "n 2"],
    covars2d: Float[Tensor, "n 2 2"],
    opacities: Float[Tensor, " n"],
    size: tuple[int, int],
    settings: RasterizeSettings,
) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, " n"]]:
    """Compute half sizes (px) of the ellipses {alpha >= alpha_min}, and which are visible."""
    extent, opaque = projection.extents_of(opacities, settings.alpha_min)
    sigmas = torch.stack([covars2d[:, 0, 0], covars2d[:, 1, 1]], -1).sqrt()
    radii = (extent.clamp_max(projection.MAX_EXTENT)[:, None] * sigmas).ceil()
    limits = torch.tensor(size, dtype=means2d.dtype, device=means2d.device)
    visible = opaque & ((means2d + radii > 0) & (means2d - radii < limits)).all(-1)
    visible &= (radii > settings.radius_clip).any(-1)
    visible &= torch.det(covars2d) > 0
    return extent[:, None] * sigmas, visible


def _composite(
    splats: _Splats,
    size: tuple[int, int],
    settings: RasterizeSettings,
    absgrad: Float[Tensor, "m 2"] | None,
) -> Float[Tensor, "c h w"]:
    """Composite front to back (Kerbl et al. 2023, eq. 3), band by band.

    The backward pass adds to `absgrad`, by Gaussian of the scene.
    """
    width, height = size
    with torch.no_grad():
        first, last = _pixel_ranges(splats, size)
    bands = []
    for top, bottom in _row_bands(first, last, height):
        with torch.no_grad():
            pairs = _pairs(splats, first, last, top, bottom, width, settings.alpha_min)
        arguments = (splats.means2d, splats.conics, splats.opacities, splats.values)
        shape = ((bottom - top) * width, width, top)
        if torch.is_grad_enabled() and any(a.requires_grad for a in arguments):
            band = checkpoint(
                _composite_pairs,
                *(*arguments, pairs, shape, settings, (absgrad, splats.index)),
                use_reentrant=False,
            )
        else:
            band = _composite_pairs(*arguments, pairs, shape, settings, (None, splats.index))
        bands.append(band.T.reshape(-1, bottom - top, width))
    return torch.cat(bands, 1)


def _pixel_ranges(
    splats: _Splats, size: tuple[int, int]
) -> tuple[Int[Tensor, "n 2"], Int[Tensor, "n 2"]]:
    """Find the first and last pixel (x, y) whose centre may lie in each ellipse's box."""
    limits = torch.tensor(size, device=splats.means2d.device)
    low = (splats.means2d - splats.extents_px - 0.5).ceil().clamp(-1e9, 1e9).long()
    high = (splats.means2d + splats.extents_px - 0.5).floor().clamp(-1e9, 1e9).long()
    return low.clamp_min(0), torch.minimum(high, limits - 1)


def _row_bands(
    first: Int[Tensor, "n 2"], last: Int[Tensor, "n 2"], height: int
) -> list[tuple[int, int]]:
    """Split the image into bands of at most PAIRS_PER_BAND pairs each (or of a single row)."""
    widths = (last[:, 0] - first[:, 0] + 1).clamp_min(0)
    widths = torch.where(last[:, 1] >= first[:, 1], widths, 0)
    change = torch.zeros(height + 1, dtype=torch.long, device=first.device)
    change.index_add_(0, first[:, 1].clamp(0, height), widths)
    change.index_add_(0, (last[:, 1] + 1).clamp(0, height), -widths)
    bands, top, total = [], 0, 0
    for row, count in enumerate(change.cumsum(0)[:height].tolist()):
        if total + count > PAIRS_PER_BAND and row > top:
            bands.append((top, row))
            top, total = row, 0
        total += count
    bands.append((top, height))
    return bands


def _pairs(
    splats: _Splats,
    first: Int[Tensor, "n 2"],
    last: Int[Tensor, "n 2"],
    top: int,
    bottom: int,
    width: int,
    alpha_min: float,
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """List (Gaussian, pixel of the band) pairs sorted by pixel, then by depth."""
    y0, y1 = first[:, 1].clamp_min(top), last[:, 1].clamp_max(bottom - 1)
    rows = (y1 - y0 + 1).clamp_min(0)
    gaussian, offset = _expand(rows)
    y = y0[gaussian] + offset
    x0, x1 = _row_interval(splats, gaussian, y, alpha_min)
    x0 = torch.maximum(x0, first[gaussian, 0])
    x1 = torch.minimum(x1, last[gaussian, 0])
    segment, offset = _expand((x1 - x0 + 1).clamp_min(0))
    pixel = (y[segment] - top) * width + x0[segment] + offset
    # Pairs come nearest first, so a stable sort by pixel keeps the depth order.
    pixel, order = torch.sort(pixel.int(), stable=True)
    return gaussian[segment][order], pixel.long()


def _row_interval(
    splats: _Splats, gaussian: Int[Tensor, " m"], y: Int[Tensor, " m"], alpha_min: float
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Find the pixels of row y whose centres may lie inside the ellipse, with some slack."""
    a, b, c = splats.conics[gaussian].unbind(-1)
    level = 2 * (splats.opacities[gaussian] / (0.99 * alpha_min)).clamp_min(1).log()
    dy = y + 0.5 - splats.means2d[gaussian, 1]
    half = ((b * dy) ** 2 - a * (c * dy * dy - level)).clamp_min(0).sqrt() / a
    center = splats.means2d[gaussian, 0] - b * dy / a - 0.5
    slack = 1e-3 * (1 + half)
    low = (center - half - slack).ceil().clamp(-1e9, 1e9).long()
    return low, (center + half + slack).floor().clamp(-1e9, 1e9).long()


def _expand(counts: Int[Tensor, " n"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Repeat each i counts[i] times; return each i and the index of its repeat."""
    index = torch.repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    return index, torch.arange(index.shape[0], device=counts.device) - start[index]


def _composite_pairs(
    means2d: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    values: Float[Tensor, "n c"],
    pairs: tuple[Int[Tensor, " m"], Int[Tensor, " m"]],
    shape: tuple[int, int, int],
    settings: RasterizeSettings,
    absgrad: tuple[Tensor | None, Tensor],
) -> Float[Tensor, "p c"]:
    """Sum alpha_i T_i value_i over each pixel's pairs."""
    (gaussian, pixel), (pixels, width, top) = pairs, shape
    center_x = (pixel % width).to(means2d) + 0.5
    center_y = (pixel // width + top).to(means2d) + 0.5
    centers = means2d[gaussian]
    sums, index = absgrad
    if sums is not None and centers.requires_grad:

        def add_absolute(gradient: Tensor) -> None:
            sums.index_add_(0, index[gaussian], gradient.detach().abs())

        centers.register_hook(add_absolute)
    dx, dy = (centers - torch.stack([center_x, center_y], -1)).unbind(-1)
    a, b, c = conics[gaussian].unbind(-1)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities[gaussian] * torch.exp(-sigma)).clamp_max(settings.alpha_max)
    alpha = torch.where((sigma >= 0) & (alpha >= settings.alpha_min), alpha, 0)

    # Transmittance before each pair: a running sum of logarithms, in float64 because
    # it runs over the whole band, less its value where the pixel starts.
    log_through = torch.log1p(-alpha.double())
    after = log_through.cumsum(0)
    before = after - log_through
    starts = torch.searchsorted(pixel, torch.arange(pixels, device=pixel.device))
    start = before[starts.clamp_max(max(pixel.shape[0] - 1, 0))][pixel] if len(pixel) else before
    transmittance = torch.exp(before - start).to(alpha)
    live = torch.exp(after - start) > settings.transmittance_min
    weights = torch.where(live, alpha * transmittance, 0)
    out = torch.zeros(pixels, values.shape[1], dtype=values.dtype, device=values.device)
    return out.index_add(0, pixel, weights[:, None] * values[gaussian])
