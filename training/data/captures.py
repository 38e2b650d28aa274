"""Captures, in any format that recon reads, as a source of training scenes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture import Capture, load_capture, load_views
from recon.errors import InputError, ReconError
from recon.model.mvs.depth_range import estimate_depth_range
from recon.types import Views
from render import Cameras
from training.data.stored import nearest_cameras
from training.data.types import SampleRequest, TrainingSample


@dataclass(frozen=True)
class CapturesConfig:
    """Options for posed photos, whose depth is unknown."""

    weight: float = 0.0
    """Relative frequency of this source."""
    folder: str = ""
    """Folder of captures, or of a single capture."""
    neighbours: int = 8
    """Context and targets are drawn from a photo and this number of its nearest neighbours (times
    the baseline of the request)."""


@dataclass(frozen=True)
class CaptureScenes:
    """Source of scenes from captures, which are loaded once for each image size."""

    config: CapturesConfig

    @functools.cached_property
    def captures(self) -> Sequence[Capture]:
        """Captures of the folder that have cameras; raise InputError if there are none."""
        folder = Path(self.config.folder)
        if not folder.is_dir():
            raise InputError(f"dataset.captures.folder: no folder {folder}")
        found = []
        for path in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
            try:
                capture = load_capture(path)
            except ReconError:
                continue
            if capture.has_cameras:
                found.append(capture)
        if not found:
            raise InputError(f"dataset.captures.folder: no captures with cameras in {folder}")
        return found

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return neighbouring photos, each in a random role."""
        generator = request.generator()
        enough = [c for c in self.captures if len(c.frames) >= request.views]
        if not enough:
            raise InputError(
                f"dataset.captures.folder: no capture in {self.config.folder} has the "
                f"{request.views} photos that context and targets need"
            )
        index = int(torch.randint(len(enough), (), generator=generator))
        views = _load_cropped(enough[index].root, request.width, request.height)
        count = max(round(self.config.neighbours * request.baseline) + 1, request.views)
        first = int(torch.randint(len(views), (), generator=generator))
        chosen = nearest_cameras(views.cameras, first)[:count]
        order = torch.randperm(len(chosen), generator=generator)[: request.views]
        return _sample(views, [chosen[i] for i in order.tolist()], request)


@functools.lru_cache(maxsize=32)
def _load_cropped(root: Path, width: int, height: int) -> Views:
    """Load all photos of a capture, scaled to cover width x height and cropped to the centre."""
    frames = load_capture(root).frames
    cameras = [frame.camera for frame in frames if frame.camera is not None]
    resolution = max(
        round(max(c.width, c.height) * max(width / c.width, height / c.height)) for c in cameras
    )
    views = load_views(frames, resolution)
    scale = max(width / views.cameras.width, height / views.cameras.height, 1.0)
    if scale > 1:  # the photos are smaller than the requested size
        views = views.resized(scale)
    left, top = (views.cameras.width - width) // 2, (views.cameras.height - height) // 2
    window = (..., slice(top, top + height), slice(left, left + width))
    return replace(
        views,
        images=views.images[window],
        masks=views.masks[window],
        valid=views.valid[window],
        cameras=views.cameras.cropped(left, top, width, height),
    )


def _sample(views: Views, order: list[int], request: SampleRequest) -> TrainingSample:
    chosen = views[order]
    context = chosen[: request.context]
    bounds = _depth_bounds(context, views.cameras)
    depth = torch.full_like(chosen.images[:, 0], float("nan"))
    # The depth of targets is never predicted; they take the range of the whole context.
    ranges = bounds.new_empty(len(order), 2)
    ranges[:, 0], ranges[:, 1] = bounds[:, 0].amin(), bounds[:, 1].amax()
    ranges[: len(context)] = bounds
    sample = TrainingSample(chosen.images, chosen.cameras, depth, ranges[:, 0], ranges[:, 1])
    return sample.to(request.device)


def _depth_bounds(context: Views, cameras: Cameras) -> Float[Tensor, "v 2"]:
    """Return near and far of the context: those of the capture, else of a coarse plane sweep.

    A single view has no parallax: its range follows from the extent of all cameras.
    """
    if context.depth_bounds is not None:
        return context.depth_bounds
    if len(context) < 2:
        extent = (cameras.centers - context.cameras.centers[0]).norm(dim=1).amax()
        return torch.stack([0.5 * extent, 20 * extent]).expand(1, 2)
    found = estimate_depth_range(context)
    return torch.stack([found.near, found.far], 1)
