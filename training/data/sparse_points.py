"""Structure-from-motion points of captures: which photo sees which, and what photos share."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from recon.capture import Capture
from recon.errors import InputError
from render import Cameras

FILE = "points.npz"
# Photos overlap if they have this number of points in common, and this fraction of the points of
# the one that has fewer.
MIN_COMMON, MIN_COMMON_FRACTION = 12, 0.1


@dataclass(frozen=True)
class SparsePoints:
    """Points of a capture and the photos that they were measured in."""

    xyz: Float[np.ndarray, "n 3"]
    """World frame of the capture."""
    seen: tuple[np.ndarray, ...]
    """Indices (int64) of the points that are visible in each photo."""

    def common(self, photos: list[int]) -> Int64[np.ndarray, " m"]:
        """Return the points that most of the photos see; empty if none is seen by two of them."""
        times = np.bincount(np.concatenate([self.seen[i] for i in photos]), minlength=1)
        return np.flatnonzero(times == times.max()) if times.max() > 1 else np.empty(0, np.int64)


def read_sparse_points(capture: Capture) -> SparsePoints | None:
    """Read the points of a capture with the photos that see them; None if it has no such points.

    They come from COLMAP's model, or from a file points.npz beside transforms.json with xyz [n 3],
    image_names [v] and, for image i, indices into xyz at offsets[i]:offsets[i+1] of point_idx. The
    points of `ply_file_path` are not used: it is unknown which photos they are occluded in.

    Raises:
        InputError: points.npz is damaged or has other contents.
    """
    if capture.kind == "colmap":
        points = [frame.points for frame in capture.frames]
        parts = [np.empty((0, 3)) if p is None else p.numpy() for p in points]
        xyz, index = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        return _points(xyz, np.split(index.reshape(-1), ends))
    path = capture.root / FILE
    return _read_file(path, capture) if path.is_file() else None


def _read_file(path: Path, capture: Capture) -> SparsePoints:
    try:
        with np.load(path, allow_pickle=False) as file:
            xyz, index, offsets = (file[k] for k in ("xyz", "point_idx", "offsets"))
            rows = {str(name): i for i, name in enumerate(file["image_names"])}
        seen = []
        for frame in capture.frames:
            row = rows.get(frame.name)
            seen.append(index[:0] if row is None else index[offsets[row] : offsets[row + 1]])
        everything = np.concatenate(seen)
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ValueError(f"xyz has shape {xyz.shape}, expected (n, 3)")
        if len(everything) and not 0 <= everything.min() <= everything.max() < len(xyz):
            raise ValueError(f"point_idx has indices outside 0 to {len(xyz) - 1}")
    except (OSError, KeyError, ValueError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"cannot read {path}: {error}; expected xyz, image_names, offsets and point_idx; "
            "export it again or remove it"
        ) from None
    return _points(xyz, seen)


def _points(xyz: np.ndarray, seen: list[np.ndarray]) -> SparsePoints:
    # A point with several features in a photo counts once.
    return SparsePoints(
        xyz.astype(np.float32), tuple(np.unique(index.astype(np.int64)) for index in seen)
    )


def triangulation_angles(points: SparsePoints, cameras: Cameras) -> Float[Tensor, "v v"]:
    """Compute the mean angle (degrees) between two photos' rays to the points that they share.

    It is infinite for photos that do not overlap, and for a photo and itself.
    """
    count = len(points.seen)
    visible = np.zeros((count, len(points.xyz)), np.float32)
    for photo, index in enumerate(points.seen):
        visible[photo, index] = 1
    rays = points.xyz - cameras.centers.numpy()[:, None]
    rays *= (visible / np.linalg.norm(rays, axis=-1).clip(1e-12))[..., None]
    flat = torch.from_numpy(rays.reshape(count, -1))
    shared = torch.from_numpy(visible @ visible.T)
    # The angle of the mean cosine over all shared points, from one product of matrices.
    cosine = (flat @ flat.T) / shared.clamp_min(1)
    angle = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
    own = shared.diagonal()
    needed = (MIN_COMMON_FRACTION * torch.minimum(own[:, None], own)).clamp_min(MIN_COMMON)
    return angle.masked_fill(shared < needed, float("inf")).fill_diagonal_(float("inf"))


def draw_overlapping(
    angles_deg: Float[Tensor, " v"],
    limits_deg: tuple[float, float],
    count: int,
    generator: torch.Generator,
) -> list[int]:
    """Draw neighbours of a photo.

    Args:
        angles_deg: A row of `triangulation_angles`.
        limits_deg: Photos within these angles are drawn first, in random order; then the others
            that overlap with the photo, wider angles in increasing order before narrower ones.
        count: Number of neighbours.
        generator: Source of the random numbers.

    Returns:
        Indices of at most `count` photos that overlap with the photo.
    """
    low, high = limits_deg
    draw = torch.rand(len(angles_deg), generator=generator)
    rank = torch.where(angles_deg > high, 1 + angles_deg, draw)
    rank = torch.where(angles_deg < low, 1000 - angles_deg, rank)
    overlapping = int(angles_deg.isfinite().sum())
    chosen: list[int] = rank.argsort(stable=True)[: min(count, overlapping)].tolist()
    return chosen
