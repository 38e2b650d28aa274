"""The world frame of photos with GPS positions: metres, x east, y north and z up."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import ExifTags

from recon.capture.exif import open_metadata
from recon.capture.images import DECODE_ERRORS, exif_value
from recon.capture.types import Frame
from recon.errors import InputError, warn
from render import Sim3
from render.cameras import camera_centers

GPS = int(ExifTags.IFD.GPSInfo)
# Semi-axes of the WGS 84 ellipsoid (m).
EQUATOR_M, POLE_M = 6_378_137.0, 6_356_752.314245
MIN_PHOTOS = 3
# Largest median residual, relative to the median distance of the cameras from their middle; and
# smallest extent across the longest one, below which nothing tells the rotation about a line.
MAX_RESIDUAL, MIN_WIDTH = 0.25, 0.05
ITERATIONS = 50

# Latitude and longitude (degrees), and altitude (m).
Geodetic = tuple[float, float, float]


@dataclass(frozen=True)
class GpsFrame:
    """The world frame that GPS positions give."""

    transform: Sim3
    """To metres, x east, y north and z up around the origin."""
    origin: Geodetic
    residual_m: float
    """Median distance between the cameras and the GPS positions."""


def gps_frame(frames: Sequence[Frame]) -> GpsFrame | None:
    """Return the frame that agrees best with the GPS positions of photos.

    None, with a warning, if they do not agree with the cameras or are all in one line.

    Args:
        frames: Photos with cameras.

    Raises:
        InputError: Less than three photos have a GPS position.
    """
    read = [(frame, gps_position(frame.image_path)) for frame in frames if frame.camera is not None]
    known = [(frame, position) for frame, position in read if position is not None]
    if len(known) < MIN_PHOTOS:
        raise InputError(
            f"{len(known)} of {len(frames)} photos have a GPS position in their EXIF data; "
            f"expected at least {MIN_PHOTOS}; leave out gps=True",
            "gps",
        )
    viewmats = torch.stack([frame.camera.viewmat for frame, _ in known if frame.camera])
    centers = camera_centers(viewmats.double()).numpy()
    geodetic = np.array([position for _, position in known])
    origin: Geodetic = tuple(float(v) for v in np.median(geodetic, 0))  # type: ignore[assignment]
    east_north_up = local_metres(geodetic, origin)
    transform, weights = similarity(centers, east_north_up)
    moved = transform.apply(torch.from_numpy(centers)).numpy()
    residual = float(np.median(np.linalg.norm(moved - east_north_up, axis=1)))
    middle = np.average(east_north_up, axis=0, weights=weights)
    spread = float(np.median(np.linalg.norm(east_north_up - middle, axis=1)))
    if residual > MAX_RESIDUAL * spread:
        warn(
            f"GPS positions are not used: they are {residual:.1f} m from the cameras, which are "
            f"{spread:.1f} m from their middle (medians); the scale stays arbitrary"
        )
        return None
    extents = np.linalg.svd(np.sqrt(weights)[:, None] * (east_north_up - middle))[1]
    if extents[1] < MIN_WIDTH * extents[0]:
        warn(
            "GPS positions are not used: they are all in one line, so that nothing tells where up "
            "is; the scale stays arbitrary"
        )
        return None
    return GpsFrame(transform, origin, residual)


def gps_position(path: Path) -> Geodetic | None:
    """Return the GPS position of a photo by its EXIF data; None if it has none with altitude."""
    try:
        with open_metadata(path) as (exif, _):
            values = [exif_value(exif, tag, GPS) for tag in range(1, 7)]
    except DECODE_ERRORS:
        return None
    south, latitude, west, longitude, below, altitude = values
    try:
        position = (
            _degrees(latitude) * (-1 if _text(south).startswith("S") else 1),
            _degrees(longitude) * (-1 if _text(west).startswith("W") else 1),
            float(altitude) * (-1 if below in (1, b"\x01") else 1),
        )
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    valid = abs(position[0]) <= 90 and abs(position[1]) <= 180 and np.isfinite(position).all()
    # Cameras without a fix write zeros.
    return position if valid and position[:2] != (0, 0) else None


def _text(value: object) -> str:
    return value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value)


def _degrees(value: Sequence[Any]) -> float:
    degrees, minutes, seconds = (float(part) for part in value)
    return degrees + minutes / 60 + seconds / 3600


def local_metres(positions: Float[np.ndarray, "n 3"], origin: Geodetic) -> np.ndarray:
    """Convert latitudes, longitudes and altitudes to metres east, north and up of an origin."""
    latitude, longitude = np.deg2rad(origin[:2])
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    up = np.array(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
    axes = np.stack([east, np.cross(up, east), up])
    away = _geocentric(positions) - _geocentric(np.array([origin]))
    return np.asarray(away @ axes.T)


def _geocentric(positions: Float[np.ndarray, "n 3"]) -> np.ndarray:
    """Return earth-centred coordinates (m) of positions on the WGS 84 ellipsoid."""
    latitude, longitude = np.deg2rad(positions[:, :2]).T
    ratio = (POLE_M / EQUATOR_M) ** 2
    radius = EQUATOR_M / np.sqrt(1 - (1 - ratio) * np.sin(latitude) ** 2)
    across = (radius + positions[:, 2]) * np.cos(latitude)
    along = (ratio * radius + positions[:, 2]) * np.sin(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), along], 1)


def similarity(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"]
) -> tuple[Sim3, Float[np.ndarray, " n"]]:
    """Return the similarity with the least sum of distances, and the weights of the points.

    Each step is the least-squares solution of Umeyama 1991 ("Least-squares estimation of
    transformation parameters between two point patterns", equations 40 to 42); points count by the
    inverse of their distance in the last one, so that a few wrong ones matter little.
    """
    weights = np.ones(len(source))
    least = 1e-6 * float(np.linalg.norm(np.ptp(target, axis=0))) + 1e-12
    for _ in range(ITERATIONS):
        found = _umeyama(source, target, weights)
        distance = np.linalg.norm(found.apply(torch.from_numpy(source)).numpy() - target, axis=1)
        weights = 1 / np.maximum(distance, max(least, 0.1 * float(np.median(distance))))
    return found, weights / weights.sum()


def _umeyama(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, " n"],
) -> Sim3:
    weights = weights / weights.sum()
    a, b = (values - weights @ values for values in (source, target))
    u, d, vt = np.linalg.svd((weights[:, None] * b).T @ a)
    signs = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotmat = u * signs @ vt
    scale = (d * signs).sum() / max(float(weights @ (a * a).sum(1)), 1e-30)
    translation = weights @ target - scale * rotmat @ (weights @ source)
    return Sim3(torch.tensor(scale).double(), *map(torch.from_numpy, (rotmat, translation)))
