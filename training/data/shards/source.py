"""Shards of photos and of rendered meshes as a source of training scenes."""

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt16
from PIL import Image
from torch import Tensor

from recon.capture.images import DECODE_ERRORS
from recon.errors import ConfigError, InputError
from render import Cameras
from training.data.frames import decode_frame, viewmats_of_rows
from training.data.meshes.source import BACKGROUND, draw_background
from training.data.shards.tar import MANIFEST, Shard, count_scenes, open_shard
from training.data.sparse_depth import sparse_depth
from training.data.stored import decode_depth, nearest_cameras
from training.data.types import (
    SampleRequest,
    TrainingSample,
    Unusable,
    draw_index,
    draw_near,
    hashed_seed,
    none_held_out,
)

# Tar files from which the scenes of neighbouring steps are drawn: reading stays local.
GROUP = 8
# What reading a damaged scene may raise.
DAMAGED = (*DECODE_ERRORS, Unusable)


@dataclass(frozen=True)
class ShardsConfig:
    """Options for shards of photos and of rendered meshes."""

    weight: float = 0.0
    """Relative frequency of this source."""
    folder: str = ""
    """Folder that `recon data convert` (of captures) or `recon data render-meshes` has written."""
    held_out: int = 32
    """Number of scenes kept for validation, the last ones; at most half of all."""
    neighbours: int = 10
    """Context and targets are drawn from a view and this number of its nearest neighbours (times
    the baseline of the request)."""


@dataclass(frozen=True)
class ShardScenes:
    """Source that takes every scene once, in random order, before it repeats any."""

    config: ShardsConfig

    @functools.cached_property
    def shards(self) -> list[tuple[Path, int]]:
        """The tar files with their numbers of scenes; raise InputError if there are none."""
        return count_scenes(Path(self.config.folder))

    @functools.cached_property
    def total(self) -> int:
        """Number of scenes."""
        return sum(count for _, count in self.shards)

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return neighbouring views of a scene, each in a random role."""
        generator = request.generator()
        path, row = self._location(request, generator)
        shard = open_shard(path)
        keys = list(shard.index)
        if row >= len(keys):
            raise InputError(
                f"{path} has {len(keys)} scenes, fewer than {path.with_name(MANIFEST)} says; "
                "remove that file"
            )
        key = keys[row]
        facts = shard.facts(key)
        try:
            return self._load(shard, key, facts, request, generator).to(request.device)
        except DAMAGED as error:
            raise InputError(
                f"{path}: scene {key} is damaged: {_reason(error)}; remove the file and repeat the "
                "command that wrote it"
            ) from None

    def _location(self, request: SampleRequest, generator: torch.Generator) -> tuple[Path, int]:
        """Return the tar file and the row of the scene that a request gets."""
        held_out = min(self.config.held_out, self.total // 2)
        count = held_out if request.held_out else self.total - held_out
        if count == 0:
            raise none_held_out(
                "dataset.shards", self.config.held_out, self.total, self.config.folder
            )
        if request.index is None:
            first = self.total - held_out if request.held_out else 0
            return self._scene(first + draw_index(generator, count))
        epoch, position = divmod(request.index, count)
        if request.held_out:
            return self._scene(self.total - held_out + position)
        sizes = tuple(size for _, size in self.shards)
        return self._scene(int(_order(sizes, count, request.order, epoch)[position]))

    def _scene(self, index: int) -> tuple[Path, int]:
        """Return the tar file and the row of a scene by its index in all files."""
        row = index
        for path, count in self.shards:
            if row < count:
                return path, row
            row -= count
        raise IndexError(index)

    def _load(
        self,
        shard: Shard,
        key: str,
        facts: dict[str, Any],
        request: SampleRequest,
        generator: torch.Generator,
    ) -> TrainingSample:
        if "near" not in facts:
            raise ConfigError(
                f"dataset.shards: {shard.path} has clips without depth ranges; "
                "read them by dataset.realestate10k.folder"
            )
        viewmats = viewmats_of_rows(torch.tensor(facts["viewmats"]))
        count, width, height = len(viewmats), request.width, request.height
        if request.views > count:
            raise ConfigError(
                f"dataset.shards: scene {key} of {shard.path} has {count} views, but context and "
                f"targets need {request.views}"
            )
        chosen = self._draw_views(viewmats, request, generator)
        mode: Literal["RGB", "RGBa"] = "RGBa" if facts["alpha"] else "RGB"
        pixels, Ks = np.empty((len(chosen), height, width, len(mode)), np.uint8), []
        for row, view in enumerate(chosen):
            content = shard.read(key, facts["frames"][view])
            intrinsics = facts["intrinsics"][view]
            pixels[row], K = decode_frame(content, intrinsics, width, height, mode)
            Ks.append(K)
        images = torch.from_numpy(pixels).movedim(-1, 1).contiguous().float().div_(255)
        cameras = Cameras(viewmats[chosen], torch.stack(Ks), width, height)
        near, far = (torch.tensor([facts[end][i] for i in chosen]) for end in ("near", "far"))
        depth = _depth(shard, key, facts, chosen, cameras)
        if facts["alpha"]:
            background = draw_background(generator)[:, None, None]
            images = (images[:, :3] + (1 - images[:, 3:]) * background).clamp_(0, 1)
            near, far = near.amin().expand_as(near), BACKGROUND * far.amax().expand_as(far)
            depth = torch.minimum(torch.maximum(depth, near[:, None, None]), far[:, None, None])
        outside = (depth < near[:, None, None]) | (depth > far[:, None, None])
        return TrainingSample(images, cameras, depth.masked_fill(outside, torch.nan), near, far)

    def _draw_views(
        self, viewmats: Float[Tensor, "n 4 4"], request: SampleRequest, generator: torch.Generator
    ) -> list[int]:
        """Draw a view and some of its nearest neighbours, in random order."""
        count = len(viewmats)
        cameras = Cameras(viewmats, torch.eye(3).expand(count, 3, 3), 1, 1)
        nearest = nearest_cameras(cameras, draw_index(generator, count))
        return draw_near(nearest, self.config.neighbours, request, generator)


def _reason(error: Exception) -> str:
    """Say what is wrong with a scene in words."""
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"


def _depth(
    shard: Shard, key: str, facts: dict[str, Any], chosen: list[int], cameras: Cameras
) -> Float[Tensor, "v h w"]:
    """Return depth from images of depth, else at the points that each photo sees, else NaN."""
    size = (cameras.height, cameras.width)
    rows = []
    for view, camera in zip(chosen, cameras, strict=True):
        if "depth" in facts:
            codes = _depth_codes(shard.read(key, facts["depth"][view]), *size)
            near, far = (torch.tensor(facts[end][view]) for end in ("near", "far"))
            rows.append(decode_depth(codes, near, far))
        elif "points" in facts:
            content = io.BytesIO(shard.read(key, facts["points"][view]))
            rows.append(sparse_depth(np.load(content, allow_pickle=False), camera)[0])
        else:
            rows.append(torch.full(size, torch.nan))
    return torch.stack(rows)


def _depth_codes(content: bytes, height: int, width: int) -> UInt16[np.ndarray, "h w"]:
    """Decode an image of depth; of another size, take the nearest pixels of its middle.

    A mean across an edge would lie on no surface.
    """
    with Image.open(io.BytesIO(content)) as file:
        codes = np.asarray(file).astype(np.uint16)
    rows, columns = codes.shape
    step = min(rows / height, columns / width)
    y = (rows - height * step) / 2 + (np.arange(height) + 0.5) * step
    x = (columns - width * step) / 2 + (np.arange(width) + 0.5) * step
    found: np.ndarray = codes[y.astype(int)[:, None], x.astype(int)]
    return found


@functools.lru_cache(maxsize=2)
def _order(sizes: tuple[int, ...], count: int, seed: int, epoch: int) -> Tensor:
    """Return the first `count` scenes of tar files in random order, a few files at a time."""
    generator = torch.Generator().manual_seed(hashed_seed(f"{seed} {epoch}"))
    ends = torch.tensor(sizes).cumsum(0).tolist()
    parts = []
    for group in torch.randperm(len(sizes), generator=generator).split(GROUP):
        ranges = [torch.arange(min(ends[i] - sizes[i], count), min(ends[i], count)) for i in group]
        indices = torch.cat(ranges)
        parts.append(indices[torch.randperm(len(indices), generator=generator)])
    return torch.cat(parts)
