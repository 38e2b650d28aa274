"""Render mesh files to shards, in processes of this machine or on a Ray cluster."""

import io
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recon.errors import InputError, counted
from recon.files import atomic_output, check_output
from recon.reporting import note
from recon.resumable import add_row, begin_folder, read_rows, remove_unfinished
from recon.workers import computing
from render import Cameras
from training.data.meshes.source import Protocol, check_renderer, render_mesh
from training.data.shards.models import Model, list_models
from training.data.shards.tar import (
    SKIPPED,
    PackedScene,
    camera_facts,
    digest_of,
    fractional_intrinsics,
    open_shard,
    write_manifest,
    write_shard,
)
from training.data.stored import encode_depth
from training.data.types import Unusable, hashed_seed

PARTS = "parts"
# How messages call what plan.json records, and what to do if it has changed.
NAMES = {key: f"--{key}" for key in ("views", "size", "cameras", "scenes")}
REMEDY = (
    "choose a new folder, or the same options and models; what is new can be rendered by itself to "
    "another folder"
)


@dataclass(frozen=True)
class RenderOptions:
    """How models are rendered and stored."""

    views: int = 32
    """Renders of a model."""
    size: int = 256
    """Width and height of the renders (px)."""
    cameras: Protocol = "random"
    """Scale, light and cameras (see `render_mesh`)."""
    scenes: int = 64
    """Models in a shard."""


def render_model(model: Model, options: RenderOptions) -> bytes | str:
    """Return the renders of a model as members of a tar file, or why there are none."""
    try:
        size, seed = options.size, hashed_seed(model.key)
        found = render_mesh(model.path, options.views, size, size, options.cameras, seed)
    except Unusable as error:
        return str(error)
    except MemoryError:
        return "too large for the memory"
    return _packed(model, found).to_tar()


def _packed(model: Model, renders: dict[str, Tensor]) -> PackedScene:
    depth = renders["depth"]
    near = torch.where(depth.isfinite(), depth, torch.inf).flatten(1).amin(1)
    far = torch.where(depth.isfinite(), depth, -torch.inf).flatten(1).amax(1)
    if not bool(near.isfinite().any()):
        raise Unusable("mesh that no camera sees")
    # A view that shows nothing takes the range of the others.
    seen = near.isfinite()
    near = torch.where(seen, near, near[seen].amin())
    far = torch.maximum(torch.where(seen, far, far[seen].amax()), near * (1 + 1e-4))
    codes = encode_depth(depth, near, far)
    files: dict[str, bytes] = {}
    for view, rgba in enumerate(renders["rgba"]):
        files[f"{view:04d}.png"] = _png(_straight(rgba))
        files[f"{view:04d}.depth.png"] = _png(codes[view])
    names = [f"{view:04d}" for view in range(len(depth))]
    height, width = depth.shape[1:]
    cameras = Cameras(renders["viewmats"], renders["Ks"], width, height)
    facts = {
        "kind": "object",
        "frames": [f"{name}.png" for name in names],
        "depth": [f"{name}.depth.png" for name in names],
        "alpha": True,
        **camera_facts(fractional_intrinsics(cameras), cameras.viewmats),
        "near": near.tolist(),
        "far": far.tolist(),
        "attribution": model.attribution(),
    }
    return PackedScene(model.key, facts, files)


def _straight(rgba: Tensor) -> np.ndarray:
    """Return colours that are not multiplied by alpha, and alpha, as PNG files have them."""
    alpha = rgba[3:].float()
    colors = (255 * rgba[:3].float() / alpha.clamp_min(1)).round().clamp(0, 255)
    return torch.cat([colors, alpha]).to(torch.uint8).movedim(0, -1).contiguous().numpy()


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def render_meshes(
    source: Path,
    out: Path,
    options: RenderOptions,
    processes: int = 1,
    limit_s: float = 600.0,
    ray: str | None = None,
) -> str:
    """Render all models that a folder of shards lacks; return a line that says what it holds.

    A model that is rendered is on the disk: a killed call goes on with the next one. Models that
    cannot be rendered are listed in skipped.jsonl and not tried again.

    Args:
        source: Folder or list of models.
        out: Folder of the shards.
        options: How models are rendered and stored.
        processes: Number of processes; on a cluster, the number of models at a time.
        limit_s: Time after which a model is given up (s).
        ray: Address of a Ray cluster; "local" starts one here; None renders without Ray.

    Raises:
        InputError: There are no models, or the folder was begun with other options or models.
        MissingDependency: trimesh, Embree or ray is not installed.
    """
    check_renderer()
    models = list_models(source)
    digest = digest_of([model.key for model in models])
    facts: dict[str, Any] = {
        "views": options.views,
        "size": options.size,
        "cameras": options.cameras,
    }
    with computing(processes, limit_s, ray) as compute:
        facts |= {"scenes": options.scenes, "models": f"{len(models)} ({digest})"}
        begin_folder(out, {"kind": "render-meshes", **facts}, REMEDY, NAMES)
        folder = _Output(out, models, options.scenes)
        waiting = folder.missing()
        note(f"{len(models) - len(waiting)} of {len(models)} models are done in {out}")
        jobs = [(index, (models[index], options)) for index in waiting]
        for index, result in compute(render_model, jobs):
            folder.add(index, result)
    skipped = len(folder.skipped)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    if skipped == len(models):
        raise InputError(
            f"no model of {source} could be rendered; the reasons are in {out / SKIPPED}; remove "
            "it to try them again"
        )
    text = f", {skipped} skipped (see {out / SKIPPED})" if skipped else ""
    return write_manifest(out) + text


class _Output:
    """A folder of shards with the models that are already rendered, each in a file of its own."""

    def __init__(self, out: Path, models: list[Model], scenes: int) -> None:
        self.out, self.models, self.scenes = out, models, scenes
        check_output(out / SKIPPED)
        self.skipped = _read_skipped(out / SKIPPED)
        (out / PARTS).mkdir(exist_ok=True)
        remove_unfinished(out / PARTS)
        for shard in range(-(-len(models) // scenes)):
            self._join(shard)

    def missing(self) -> list[int]:
        """Return the indices of the models that are neither rendered nor skipped."""
        return [index for index in range(len(self.models)) if not self._is_done(index)]

    def add(self, index: int, result: bytes | str) -> None:
        """Store the renders of a model, or why there are none."""
        model = self.models[index]
        if isinstance(result, str):
            note(f"skipped {model.path}: {result}")
            self.skipped[model.key] = result
            row = {"key": model.key, "path": str(model.path), "reason": result}
            add_row(self.out / SKIPPED, row)
        else:
            with atomic_output(self._part(index)) as temporary:
                temporary.write_bytes(result)
        self._join(index // self.scenes)

    def _part(self, index: int) -> Path:
        return self.out / PARTS / f"{index:08d}.tar"

    def _shard(self, shard: int) -> Path:
        return self.out / f"{shard:06d}.tar"

    def _is_done(self, index: int) -> bool:
        if self.models[index].key in self.skipped or self._part(index).is_file():
            return True
        return self.models[index].key in self._written(index // self.scenes)

    def _written(self, shard: int) -> Collection[str]:
        """Return the keys of the scenes in a shard."""
        path = self._shard(shard)
        return open_shard(path).index if path.is_file() else ()

    def _join(self, shard: int) -> None:
        """Write a shard once all its models are done, and remove their own files.

        A model that was skipped before and now has a scene goes into a shard that is already
        there: that is written anew, with the scenes that it had.
        """
        first = shard * self.scenes
        indices = range(first, min(first + self.scenes, len(self.models)))
        if not all(self._is_done(index) for index in indices):
            return
        parts = {index: self._part(index) for index in indices if self._part(index).is_file()}
        path, written = self._shard(shard), self._written(shard)
        if any(self.models[index].key not in written for index in parts):
            count = write_shard(path, self._scenes(shard, indices))
            note(f"wrote {path}: {counted(count, 'scene')}")
        for part in parts.values():
            part.unlink()

    def _scenes(self, shard: int, indices: Iterable[int]) -> Iterator[bytes]:
        """Yield the scenes of a shard: just rendered, or as the shard has them already."""
        written = self._written(shard)
        for index in indices:
            key = self.models[index].key
            if self._part(index).is_file():
                yield self._part(index).read_bytes()
            elif key in written:
                yield open_shard(self._shard(shard)).scene(key)


def _read_skipped(path: Path) -> dict[str, str]:
    """Read the reasons of the models that were skipped, by key."""
    try:
        return {row["key"]: row["reason"] for row in read_rows(path)}
    except KeyError:
        raise InputError(f"cannot read {path}; remove it, and its models are tried again") from None
