"""Captures (whatever `recon` reads) as a source of training scenes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture import Capture, load_capture, load_views
from recon.errors import InputError, ReconError
from recon.model.mvs.depth_range import estimate_depth_range
from recon.types import Views
from render import Cameras
from training.data.types import SampleRequest, TrainingSample


@dataclass(frozen=True)
class CapturesConfig:
    """Photos with cameras; their depth is not known, so only pictures teach."""

    weight: float = 0.0
    """How often scenes come from here, relative to the other sources."""
    folder: str = ""
    """Folder of captures, or one capture."""
    neighbours: int = 8
    """Context and targets are drawn from a photo and so many of its nearest ones (times the
    baseline asked for)."""


@dataclass(frozen=True)
class CaptureScenes:
    """The source. Captures are loaded once, at the size asked for, and kept."""

    config: CapturesConfig

    @functools.cached_property
    def captures(self) -> Sequence[Capture]:
        """Those with cameras; ReconError when there is none."""
        folder = Path(self.config.folder)
        if not folder.is_dir():
            raise InputError(f"dataset.captures.folder: no folder {folder}")
        found = []
        for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
            try:
                capture = load_capture(place)
            except ReconError:
                continue
            if capture.has_cameras:
                found.append(capture)
        if not found:
            raise InputError(f"dataset.captures.folder: no captures with cameras in {folder}")
        return found

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Photos near one another, in random roles."""
        generator = request.generator()
        enough = [c for c in self.captures if len(c.frames) >= request.views]
        if not enough:
            raise InputError(
                f"dataset.captures.folder: no capture in {self.config.folder} has the "
                f"{request.views} photos that context and targets need"
            )
        number = int(torch.randint(len(enough), (), generator=generator))
        views = _loaded(enough[number].root, request.width, request.height)
        near_by = max(round(self.config.neighbours * request.baseline) + 1, request.views)
        chosen = _near_by(views.cameras, near_by, generator)
        order = torch.randperm(len(chosen), generator=generator)[: request.views]
        return _sample(views, [chosen[i] for i in order.tolist()], request)


@functools.lru_cache(maxsize=32)
def _loaded(root: Path, width: int, height: int) -> Views:
    """All photos of a capture, scaled to cover width x height, the middle cut out."""
    frames = load_capture(root).frames
    cameras = [frame.camera for frame in frames if frame.camera is not None]
    resolution = max(
        round(max(c.width, c.height) * max(width / c.width, height / c.height)) for c in cameras
    )
    views = load_views(frames, resolution)
    grown = max(width / views.cameras.width, height / views.cameras.height, 1.0)
    if grown > 1:  # photos smaller than what is asked for
        views = views.resized(grown)
    left, top = (views.cameras.width - width) // 2, (views.cameras.height - height) // 2
    window = (..., slice(top, top + height), slice(left, left + width))
    return Views(
        views.images[window],
        views.masks[window],
        views.valid[window],
        views.cameras.cropped(left, top, width, height),
        views.names,
        views.depth_bounds,
    )


def _near_by(cameras: Cameras, count: int, generator: torch.Generator) -> list[int]:
    """A random view and those whose places and directions are nearest."""
    first = int(torch.randint(len(cameras), (), generator=generator))
    centers, axes = cameras.centers, cameras.viewmats[:, 2, :3]
    distance = (centers - centers[first]).norm(dim=1)
    typical = distance[distance > 0].median() if bool((distance > 0).any()) else 1.0
    cost = distance / typical + 2 * (1 - axes @ axes[first])
    return cost.argsort(stable=True)[:count].tolist()


def _sample(views: Views, order: list[int], request: SampleRequest) -> TrainingSample:
    context, everyone = order[: request.context], views.cameras[order]
    bounds = _depth_bounds(views, context)
    images = views.images[order]
    depth = torch.full_like(images[:, 0], float("nan"))
    # Targets are not asked for depth; they take the context's range.
    near, far = bounds[:, 0].amin(), bounds[:, 1].amax()
    filled = bounds.new_empty(len(order), 2)
    filled[:, 0], filled[:, 1] = near, far
    filled[: len(context)] = bounds
    sample = TrainingSample(images, everyone, depth, filled[:, 0], filled[:, 1])
    return sample.to(request.device)


def _depth_bounds(views: Views, context: list[int]) -> Float[Tensor, "v 2"]:
    """What the capture says, else what a coarse sweep over the context finds."""
    if views.depth_bounds is not None:
        return views.depth_bounds[context]
    chosen = Views(
        views.images[context],
        views.masks[context],
        views.valid[context],
        views.cameras[context],
        tuple(views.names[i] for i in context),
    )
    if len(context) < 2:
        reach = (views.cameras.centers - chosen.cameras.centers[0]).norm(dim=1).amax()
        return torch.stack([0.5 * reach, 20 * reach]).expand(1, 2)
    found = estimate_depth_range(chosen)
    return torch.stack([found.near, found.far], 1)
