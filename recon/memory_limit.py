"""A bound on memory: settings that keep it, by an estimate of the peak of each stage."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from recon.capture.frame_views import padded_size
from recon.capture.orientation import photo_size
from recon.capture.types import Frame
from recon.config import ReconstructConfig
from recon.devices import choose_device
from recon.errors import ConfigError
from recon.memory import available_memory

# Bytes, measured at peaks of resident memory, with what the allocator cannot reuse: Python, torch,
# weights; a pixel of a photo with masks; a pixel of all views of a forward pass, and with error
# feedback; a predicted Gaussian while the scene is put together; a Gaussian that is optimised.
BASE, PHOTO_PIXEL, VIEW_PIXEL, FEEDBACK_PIXEL = 430e6, 5.0, 300.0, 900.0
PREDICTED_GAUSSIAN, OPTIMISED_GAUSSIAN = 350.0, 1400.0
# The volume of one view at a time: bytes a pixel up to DIRECT_PIXELS, and beyond, where only few
# hypotheses are left.
VOLUME_PIXEL, LARGE_VOLUME_PIXEL, DIRECT_PIXELS = 7000.0, 2500.0, 256.0**2
# Limits below which no setting is reduced.
MIN_GROUP_PX, MIN_GAUSSIANS, MIN_PHOTO_PX, MIN_PHOTOS = 128, 20_000, 128, 8
# Factors of one step: of a size (px), and of a number of photos or Gaussians.
SIZE_STEP, NUMBER_STEP = 0.9, 0.75
Reduction: TypeAlias = Callable[[ReconstructConfig], ReconstructConfig]


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory of the stages of a reconstruction (bytes)."""

    photos: float
    """The photos, which stay in memory."""
    prediction: float
    """The forward pass of one group of views, and what it leaves."""
    optimisation: float
    """Parameters, gradients and moments of the Gaussians, and the state of the rasterizer."""
    gaussians: int
    """Number of Gaussians of the scene."""

    @property
    def total(self) -> float:
        """Peak of the whole run; stages reuse each other's memory."""
        return BASE + self.photos + max(self.prediction, self.optimisation)

    @staticmethod
    def of(config: ReconstructConfig, size: tuple[int, int], count: int) -> "MemoryEstimate":
        """Estimate the memory of a reconstruction.

        Args:
            config: Settings.
            size: (width, height) of the photos as loaded (px).
            count: Number of photos.
        """
        pixels, fusion = size[0] * size[1], config.fusion
        is_fused = count >= fusion.min_views
        group, geometry, view_pixels = count, count, float(pixels)
        is_optimised = config.optimise.steps > 0
        if is_fused or is_optimised:
            side = fusion.resolution if is_fused else fusion.few_side(max(size))
            view_pixels = pixels * min(side / max(size), 1.0) ** 2
        if is_fused:
            geometry, group = min(count, fusion.max_views), min(count, fusion.group_size)
        feedback = not is_fused and (not is_optimised or count < fusion.min_views_checked)
        direct = min(view_pixels, DIRECT_PIXELS)
        forward = direct * VOLUME_PIXEL + (view_pixels - direct) * LARGE_VOLUME_PIXEL
        forward += group * view_pixels * (FEEDBACK_PIXEL if feedback else VIEW_PIXEL)
        predicted = geometry * view_pixels
        kept = predicted
        if is_optimised:
            most = config.simplify.limit(config.views.resolution, count)
            kept = min((1 - config.simplify.removed(count)) * predicted, most)
        return MemoryEstimate(
            photos=count * pixels * PHOTO_PIXEL,
            prediction=forward + predicted * PREDICTED_GAUSSIAN,
            optimisation=predicted * PREDICTED_GAUSSIAN / 2 + kept * OPTIMISED_GAUSSIAN,
            gaussians=int(kept),
        )


def fit_memory(
    config: ReconstructConfig, frames: Sequence[Frame]
) -> tuple[ReconstructConfig, str | None]:
    """Reduce settings until the estimated memory is within `config.memory_gb`.

    Without it, the limit is what this machine has available, if the computation is on the CPU.

    Whatever takes most is reduced first: views that are predicted together, the number of
    Gaussians, the resolution of the photos, and last the number of photos.

    Args:
        config: Settings, with or without a limit.
        frames: All photos that could be used.

    Returns:
        The settings to use, and one line that says what was reduced, if anything was.

    Raises:
        ConfigError: Not even the smallest settings fit.
    """
    limit = _limit(config)
    if limit is None:
        return config, None
    fitting, needed = config, 0.0
    originals = [photo_size(frame) for frame in frames]
    while (estimate := _estimate(fitting, originals)).total > limit:
        needed = needed or estimate.total
        reduced = next(
            (made for step in _order(estimate, limit) if (made := step(fitting)) != fitting), None
        )
        if reduced is None:
            have = f"{limit / 1e9:.2f} GB of memory are available"
            if config.memory_gb is not None:
                have = f"memory_gb is {config.memory_gb:g}"
            raise ConfigError(
                f"{have}, but even the smallest settings take about "
                f"{estimate.total / 1e9:.2f} GB; allow more, or use fewer photos",
                "memory_gb",
            )
        fitting = reduced
    reason = f"limiting memory to {limit / 1e9:.3g} GB"
    if config.memory_gb is None:
        reason = (
            f"about {needed / 1e9:.3g} GB of memory are needed, but {limit / 1e9:.3g} GB are "
            "available; reduced"
        )
    return fitting, _summary(reason, config, fitting, len(frames))


def _limit(config: ReconstructConfig) -> float | None:
    """Return the limit of memory (bytes), None if there is none."""
    if config.memory_gb is not None:
        return 1e9 * config.memory_gb
    return available_memory() if choose_device(config.device).type == "cpu" else None


def _estimate(config: ReconstructConfig, originals: Sequence[tuple[int, int]]) -> MemoryEstimate:
    size = padded_size(originals, config.views.resolution)
    return MemoryEstimate.of(config, size, min(len(originals), config.views.max_views))


def _order(estimate: MemoryEstimate, limit: float) -> list[Reduction]:
    """Return the reductions, the most effective one first."""
    prediction = [_smaller_few, _in_groups, _smaller_groups, _fewer_geometry_views]
    excess = BASE + estimate.photos + estimate.optimisation - limit
    optimisation = [partial(_fewer_gaussians, count=estimate.gaussians, excess=excess)]
    photos: list[Reduction] = [_smaller_photos, _fewer_photos]
    larger, other = (
        (prediction, optimisation)
        if estimate.prediction > estimate.optimisation
        else (optimisation, prediction)
    )
    if estimate.photos > max(estimate.prediction, estimate.optimisation):
        return [*photos, *larger, *other]
    return [*larger, *photos, *other]


def _smaller_few(config: ReconstructConfig) -> ReconstructConfig:
    """Reduce the depth maps of few photos, down to the size of those of groups."""
    fusion = config.fusion
    smaller = _less(fusion.few_resolution, SIZE_STEP, fusion.resolution)
    return replace(config, fusion=replace(fusion, few_resolution=smaller))


def _in_groups(config: ReconstructConfig) -> ReconstructConfig:
    return replace(config, fusion=replace(config.fusion, min_views=2))


def _smaller_groups(config: ReconstructConfig) -> ReconstructConfig:
    resolution = _less(config.fusion.resolution, SIZE_STEP, MIN_GROUP_PX)
    return replace(config, fusion=replace(config.fusion, resolution=resolution))


def _fewer_geometry_views(config: ReconstructConfig) -> ReconstructConfig:
    fewer = _less(config.fusion.max_views, NUMBER_STEP, MIN_PHOTOS)
    return replace(config, fusion=replace(config.fusion, max_views=fewer))


def _fewer_gaussians(config: ReconstructConfig, count: int, excess: float) -> ReconstructConfig:
    """Reduce the number of Gaussians, by what is needed to save `excess` bytes and no more."""
    if config.optimise.steps == 0:
        return config
    needed = count - math.ceil(max(excess, 0.0) / OPTIMISED_GAUSSIAN)
    fewer = max(needed, _less(count, NUMBER_STEP, MIN_GAUSSIANS))
    if fewer == count:
        return config
    return replace(config, simplify=replace(config.simplify, max_gaussians=fewer))


def _depth_px(config: ReconstructConfig, count: int) -> int:
    """Return the long side of the depth maps of a number of photos (px)."""
    side = config.views.resolution
    if count >= config.fusion.min_views:
        return min(config.fusion.resolution, side)
    return config.fusion.few_side(side) if config.optimise.steps else side


def _max_gaussians(config: ReconstructConfig, count: int) -> int:
    return config.simplify.limit(config.views.resolution, count)


def _smaller_photos(config: ReconstructConfig) -> ReconstructConfig:
    resolution = _less(config.views.resolution, SIZE_STEP, MIN_PHOTO_PX)
    return replace(config, views=replace(config.views, resolution=resolution))


def _fewer_photos(config: ReconstructConfig) -> ReconstructConfig:
    fewer = _less(config.views.max_views, NUMBER_STEP, MIN_PHOTOS)
    return replace(config, views=replace(config.views, max_views=fewer))


def _less(value: int, factor: float, least: int) -> int:
    """Reduce a value by a factor, but not below `least`; it never grows."""
    return min(value, max(int(factor * value), least))


def _summary(
    reason: str, before: ReconstructConfig, after: ReconstructConfig, count: int
) -> str | None:
    """Say in one line what was reduced and why; None if nothing was."""
    used = min(count, after.views.max_views)
    most, depth = _max_gaussians(after, used), _depth_px(after, used)
    changes = [
        (before.views.resolution, after.views.resolution, f"photos of {after.views.resolution} px"),
        (min(count, before.views.max_views), used, f"{used} photos"),
        (_depth_px(before, used), depth, f"depth at {depth} px"),
        (
            min(used, before.fusion.max_views),
            min(used, after.fusion.max_views),
            f"depth of {after.fusion.max_views} photos",
        ),
        (_max_gaussians(before, used), most, f"{most:,} Gaussians"),
    ]
    reduced = [text for old, new, text in changes if old != new]
    return f"{reason}: {', '.join(reduced)}" if reduced else None
