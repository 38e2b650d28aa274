"""Scenes on disk as a source of training scenes; `training.data.store` writes them.

A folder holds shards, files NNNNNN.safetensors named by the number of scenes before them. Each has
v views of n scenes: images [n v 3 h w] (uint8), depth [n v h w] (uint16, see `encode_depth`),
viewmats [n v 4 4], Ks [n v 3 3], near and far [n v] (float32).
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt16
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recon.errors import ConfigError, InputError
from render import Cameras
from training.data.types import (
    SampleRequest,
    TrainingSample,
    draw_index,
    hashed_seed,
    none_held_out,
)

# Codes of depth: 0 is unknown (NaN), 1 the far end, LAST the near end, INFINITE infinitely far.
LAST, INFINITE = 65534, 65535
ARRAYS = ("images", "depth", "viewmats", "Ks", "near", "far")


@dataclass(frozen=True)
class StoredConfig:
    """Options for scenes on disk."""

    weight: float = 0.0
    """Relative frequency of this source."""
    folder: str = ""
    """Folder that `python -m training.data.store` has written."""
    scenes: int = 0
    """Number of scenes to use, the first ones of the folder; 0 uses all."""
    held_out: int = 32
    """Number of scenes kept for validation, the last ones; at most half of all."""


@dataclass(frozen=True)
class StoredScenes:
    """Source that takes every scene of a folder once, in random order, before it repeats any."""

    config: StoredConfig

    @functools.cached_property
    def scenes(self) -> list[tuple[Path, int]]:
        """Shard and row of every scene; raise InputError if the folder has too few."""
        folder, wanted = Path(self.config.folder), self.config.scenes
        found = [
            (path, row)
            for path in sorted(folder.glob("*.safetensors"))
            for row in range(shape_of(path)[0])
        ]
        if not found or len(found) < wanted:
            raise InputError(
                f"dataset.stored.folder: {len(found)} scenes in {folder}, expected "
                f"{wanted or 'some'}; write them with python -m training.data.store"
            )
        return found[: wanted or None]

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return neighbouring views of a scene, each in a random role."""
        generator = request.generator()
        path, row = self.scenes[self._index(request, generator)]
        views, _, height, width = shape_of(path)[1:]
        if request.views > views:
            raise ConfigError(
                f"dataset.stored: the scenes of {path.parent} have {views} views, but context and "
                f"targets need {request.views}"
            )
        if request.width > width or request.height > height:
            raise ConfigError(
                f"dataset.stored: the images of {path.parent} have {width} x {height} px, expected "
                f"at least the requested {request.width} x {request.height}"
            )
        shard = _shard(path)
        stored = {name: shard.get_slice(name)[row] for name in ARRAYS}
        viewmats, Ks = torch.from_numpy(stored["viewmats"]), torch.from_numpy(stored["Ks"])
        cameras = Cameras(viewmats, Ks, width, height)
        first = draw_index(generator, views)
        count = request.views + round(
            min(request.baseline, 1.0) * draw_index(generator, views - request.views + 1)
        )
        nearest = torch.tensor(nearest_cameras(cameras, first)[:count])
        chosen = nearest[torch.randperm(count, generator=generator)[: request.views]]
        sample = _decoded({k: v[chosen.numpy()] for k, v in stored.items()}, cameras[chosen])
        return _fitted(sample, request.width, request.height).to(request.device)

    def _index(self, request: SampleRequest, generator: torch.Generator) -> int:
        """Return the index of the scene that a request gets."""
        total = len(self.scenes)
        held_out = min(self.config.held_out, total // 2)
        first, count = (total - held_out, held_out) if request.held_out else (0, total - held_out)
        if count == 0:
            raise none_held_out("dataset.stored", self.config.held_out, total, self.config.folder)
        if request.index is None:
            return first + draw_index(generator, count)
        epoch, position = divmod(request.index, count)
        return first + int(_order(count, request.order, epoch)[position])


def nearest_cameras(cameras: Cameras, first: int) -> list[int]:
    """Return the indices of all cameras, nearest in position and direction to the first one."""
    centers, axes = cameras.centers, cameras.viewmats[:, 2, :3]
    distance = (centers - centers[first]).norm(dim=1)
    typical = distance[distance > 0].median() if bool((distance > 0).any()) else 1.0
    cost = distance / typical + 2 * (1 - axes @ axes[first])
    nearest: list[int] = cost.argsort(stable=True).tolist()
    return nearest


def encode_depth(
    depth: Float[Tensor, "*v h w"], near: Float[Tensor, "*v"], far: Float[Tensor, "*v"]
) -> UInt16[np.ndarray, "*v h w"]:
    """Quantise depths (z) by disparity: LAST steps from far to near, beyond which they are clamped.

    Unknown (NaN) and infinite depths are kept.
    """
    low, high = (1 / end.double()[..., None, None] for end in (far, near))
    fraction = ((1 / depth.double() - low) / (high - low)).clamp(0, 1)
    codes = (1 + fraction * (LAST - 1)).round()
    codes = torch.where(depth.isinf(), float(INFINITE), codes).nan_to_num(nan=0.0)
    return codes.numpy().astype(np.uint16)


def decode_depth(
    codes: UInt16[np.ndarray, "*v h w"], near: Float[Tensor, "*v"], far: Float[Tensor, "*v"]
) -> Float[Tensor, "*v h w"]:
    """Undo `encode_depth`."""
    code = torch.from_numpy(codes.astype(np.float32))
    low, high = (1 / end[..., None, None] for end in (far, near))
    depth = 1 / (low + (code - 1) * ((high - low) / (LAST - 1)))
    depth = depth.masked_fill(code == 0, float("nan"))
    return depth.masked_fill(code == INFINITE, float("inf"))


def _decoded(stored: dict[str, np.ndarray], cameras: Cameras) -> TrainingSample:
    images = torch.from_numpy(stored["images"]).float() / 255
    near, far = (torch.from_numpy(stored[name]) for name in ("near", "far"))
    return TrainingSample(images, cameras, decode_depth(stored["depth"], near, far), near, far)


def _fitted(sample: TrainingSample, width: int, height: int) -> TrainingSample:
    """Downsample images with antialiasing to cover width x height, and crop to the centre.

    Depth is that of the nearest pixel, since a mean across an edge lies on no surface.
    """
    full_width, full_height = sample.cameras.width, sample.cameras.height
    if (full_width, full_height) == (width, height):
        return sample
    scale = max(width / full_width, height / full_height)
    size = (max(round(scale * full_height), height), max(round(scale * full_width), width))
    images = torch.nn.functional.interpolate(sample.images, size, mode="bilinear", antialias=True)
    depth = torch.nn.functional.interpolate(sample.depth[:, None], size, mode="nearest-exact")[:, 0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    window = (..., slice(top, top + height), slice(left, left + width))
    cameras = sample.cameras.resized(size[1], size[0]).cropped(left, top, width, height)
    return TrainingSample(images[window], cameras, depth[window], sample.near, sample.far)


def _shard(path: Path) -> Any:
    """Open a shard, memory-mapped, once; raise InputError if it is damaged."""
    try:
        return _opened(path, path.stat().st_mtime_ns)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot read {path}: {error}; delete it and write it again with "
            "python -m training.data.store"
        ) from None


@functools.lru_cache(maxsize=512)
def _opened(path: Path, changed_ns: int) -> Any:
    """Open a file; one that was written again since is another."""
    return safe_open(path, framework="numpy")


def shape_of(path: Path) -> tuple[int, int, int, int, int]:
    """Return the shape [n v 3 h w] of a shard's images; raise InputError if it is damaged."""
    n, v, c, h, w = _shard(path).get_slice("images").get_shape()
    return n, v, c, h, w


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(hashed_seed(f"{seed} {epoch}"))
    return torch.randperm(count, generator=generator)
