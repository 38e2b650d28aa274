"""Scenes of shards, packed from clips of RealEstate10K and from captures."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon.capture import Capture, load_views
from recon.capture.images import DECODE_ERRORS
from recon.types import Views
from render import Cameras
from render.video import to_bytes
from training.data.captures import read_source
from training.data.photo_windows import Photo
from training.data.realestate10k import Clip
from training.data.shards.tar import PackedScene, camera_facts, fractional_intrinsics
from training.data.sparse_depth import other_ranges, sparse_depths
from training.data.sparse_points import read_sparse_points
from training.data.stored import nearest_cameras
from training.data.types import Unusable

# Photos whose depth range is unknown are compared with this number of neighbours.
NEIGHBOURS = 3
# First bytes of a PNG file.
PNG = b"\x89PNG"


@dataclass(frozen=True)
class ConvertOptions:
    """How scenes become shards."""

    side: int | None = None
    """Shorter side of the images (px), which are made smaller but never larger; None keeps the
    images of clips as they are, byte for byte, and photos at their full size."""
    quality: int = 95
    """Quality of JPEG files that are written anew."""
    scenes: int = 64
    """Files or captures in a tar file; all clips of a .torch chunk go into one."""


def pack_clip(clip: Clip, options: ConvertOptions) -> PackedScene:
    """Return a clip as a scene; frames that are missing or damaged have no image."""
    files: dict[str, bytes] = {}
    names: list[str | None] = []
    for index in range(len(clip)):
        try:
            content = _smaller(clip.read(index), options)
        except Unusable:
            names.append(None)
            continue
        suffix = "png" if content.startswith(PNG) else "jpg"
        name = f"{index:04d}.{suffix}"
        names.append(name)
        files[name] = content
    cameras = camera_facts(clip.intrinsics, clip.viewmats)
    return PackedScene(clip.key, {"kind": "clip", "frames": names, **cameras}, files)


def pack_capture(capture: Capture, folder: Path, options: ConvertOptions) -> PackedScene:
    """Return undistorted photos with their cameras, depth ranges and points as a scene."""
    points = read_sparse_points(capture)
    files: dict[str, bytes] = {}
    names, views = [], []
    for index, frame in enumerate(capture.frames):
        assert frame.camera is not None
        size = frame.camera.width, frame.camera.height
        scale = 1.0 if options.side is None else min(1.0, options.side / min(size))
        views.append(load_views([frame], round(scale * max(size))))
        names.append(f"{index:04d}.jpg")
        files[names[-1]] = _jpeg(Image.fromarray(to_bytes(views[-1].images[0])), options.quality)
    facts: dict[str, Any] = {"kind": "photos", "frames": names, "alpha": False}
    if points is not None:
        facts["points"] = [f"{index:04d}.points.npy" for index in range(len(names))]
        for name, seen in zip(facts["points"], points.seen, strict=True):
            files[name] = _npy(points.xyz[seen])
    ranges = []
    everyone = _joined(views)
    for index, view in enumerate(views):
        _, found = sparse_depths(points, [index], view.cameras)
        known = bool(found.isfinite().all()) and view.depth_bounds is None
        ranges.append(found[0] if known else _range(views, everyone, index))
    near, far = torch.stack(ranges).T.tolist()
    facts |= {"near": near, "far": far, "attribution": read_source(folder)}
    intrinsics = torch.cat([fractional_intrinsics(view.cameras) for view in views])
    return PackedScene(folder.name, facts | camera_facts(intrinsics, everyone.viewmats), files)


def _range(views: list[Views], everyone: Cameras, index: int) -> Float[Tensor, "2"]:
    """Return the depth range of a photo that no points give: stated, or of a plane sweep."""
    # The same size for all of them, as a plane sweep needs.
    near_ones = [
        i
        for i in nearest_cameras(everyone, index)
        if views[i].images.shape == views[index].images.shape
    ][: NEIGHBOURS + 1]
    images = torch.cat([views[i].images for i in near_ones])
    photos = []
    for i in near_ones:
        stated = views[i].depth_bounds
        bounds = None if stated is None else stated[0]
        photos.append(Photo(np.empty((0, 0, 3), np.uint8), views[i].cameras[0], bounds))
    cameras = Cameras.cat([views[i].cameras for i in near_ones])
    return other_ranges(photos, images, cameras, everyone)[0]


def _joined(views: list[Views]) -> Cameras:
    """Return all cameras as if their images had one size, for their positions and directions."""
    first = views[0].cameras
    viewmats = torch.cat([view.cameras.viewmats for view in views])
    Ks = torch.cat([view.cameras.Ks for view in views])
    return Cameras(viewmats, Ks, first.width, first.height)


def _smaller(content: bytes, options: ConvertOptions) -> bytes:
    """Return an image file whose shorter side is at most the wanted one.

    Raises:
        Unusable: The file is damaged.
    """
    if options.side is None:
        return content
    try:
        with Image.open(io.BytesIO(content)) as file:
            scale = options.side / min(file.size)
            if scale >= 1:
                return content
            size = (round(scale * file.width), round(scale * file.height))
            file.draft("RGB", (2 * size[0], 2 * size[1]))
            image = file.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    except DECODE_ERRORS:
        raise Unusable("corrupt image") from None
    return _jpeg(image, options.quality)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
