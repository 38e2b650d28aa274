"""Scale and gravity from square markers of a stated size: ArUco and AprilTag, found by OpenCV."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from recon.capture.images import read_pixels, resized, scaled_size
from recon.capture.types import Frame, FrameCamera
from recon.capture.undistort import straight_rays
from recon.errors import InputError, counted, listed, warn
from render import Sim3
from render.cameras import camera_centers

# Families that are tried, by OpenCV's names; each holds the smaller ones of its grid.
FAMILIES = (
    "APRILTAG_36h11", "APRILTAG_25h9", "ARUCO_MIP_36h12", "ARUCO_ORIGINAL", "4X4_100", "5X5_100",
    "6X6_250", "7X7_100",
)  # fmt: skip
# Largest number of photos that are searched, and the long side at which they are (px).
MAX_PHOTOS, SEARCH_PX = 60, 2000
# Distance of a corner from its projection up to which a photo counts (long sides of the photo).
MAX_ERROR = 0.002
# Largest relative difference of the four edges of a marker, and of markers from their median.
MAX_EDGE_DIFFERENCE, MAX_MARKER_DIFFERENCE = 0.1, 0.1
# Angle from the down direction of the photos within which markers are taken to lie on the ground.
MAX_TILT_DEG = 30.0

# Family and number of a marker.
MarkerName = tuple[str, int]


@dataclass(frozen=True)
class _Sighting:
    """The corners of a marker in one photo, as rays."""

    frame: int
    center: Float[np.ndarray, "3"]
    directions: Float[np.ndarray, "4 3"]
    """Unit directions in the world."""
    radian_px: float
    """Pixels per radian in the middle, over the long side of the photo."""


def marker_transform(frames: Sequence[Frame], size: float, level: bool) -> Sim3:
    """Return the transform of the world into the units of `size`, by the markers that photos show.

    Args:
        frames: Photos with cameras.
        size: Length of a side of the black square of every marker.
        level: Whether to rotate the world so that +y points down exactly, if the markers lie about
            level, as the photos tell.

    Raises:
        InputError: No marker is seen well in two photos.
    """
    found = _sightings(frames)
    corners = {name: _triangulated(seen) for name, seen in found.items()}
    edges = {name: _side(c) for name, c in corners.items() if c is not None}
    known = {name: side for name, side in edges.items() if side is not None}
    if not known:
        raise InputError(_nothing(found, size))
    median = float(np.median(list(known.values())))
    good = {n: s for n, s in known.items() if abs(s / median - 1) < MAX_MARKER_DIFFERENCE}
    if len(good) < len(known):
        names = listed([_text(name) for name in known if name not in good])
        warn(f"markers of another size than the others are not used: {names}")
    if not good:
        raise InputError(
            f"the {len(known)} markers differ in size by more than {MAX_MARKER_DIFFERENCE:.0%}; "
            "expected all of the size of marker_size",
            "marker_size",
        )
    scale = size / float(np.mean(list(good.values())))
    rotmat = np.eye(3)
    if level:
        kept = [c for name, c in corners.items() if name in good and c is not None]
        rotmat = _leveling(kept)
    return Sim3(
        torch.tensor(scale, dtype=torch.float64),
        torch.from_numpy(rotmat),
        torch.zeros(3, dtype=torch.float64),
    )


def _nothing(found: dict[MarkerName, list[_Sighting]], size: float) -> str:
    """Describe why there is no scale."""
    expected = f"expected a square marker of side {size:g} in at least two sharp photos"
    if not found:
        return f"no ArUco or AprilTag marker is found in the photos; {expected}"
    names = listed([_text(name) for name in found])
    return f"no marker can be measured (found: {names}); {expected} from different positions"


def _text(name: MarkerName) -> str:
    return f"{name[0]} number {name[1]}"


def _sightings(frames: Sequence[Frame]) -> dict[MarkerName, list[_Sighting]]:
    """Return where photos see markers; photos that cannot be read are passed over."""
    step = max(1, -(-len(frames) // MAX_PHOTOS))
    found: dict[MarkerName, list[_Sighting]] = defaultdict(list)
    for index, frame in enumerate(frames[::step]):
        if frame.camera is None or frame.camera.distortion == "lens":
            continue
        try:
            colors, _ = read_pixels(frame.image_path, apply_orientation=frame.oriented)
        except InputError:
            continue
        for name, corners_px in detected(colors).items():
            found[name].append(_seen(index, frame.camera, corners_px))
    return dict(found)


def detected(colors: UInt8[np.ndarray, "h w 3"]) -> dict[MarkerName, Float[np.ndarray, "4 2"]]:
    """Return the corners of the markers in a photo (px), clockwise from that at their top left."""
    height, width = colors.shape[:2]
    size = scaled_size((width, height), SEARCH_PX / max(width, height))
    grey = cv2.cvtColor(resized(colors, size), cv2.COLOR_RGB2GRAY)
    found: dict[MarkerName, np.ndarray] = {}
    for family in FAMILIES:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{family}"))
        for number, each in _markers(grey, dictionary, cv2.aruco.CORNER_REFINE_SUBPIX).items():
            # OpenCV counts from the centre of the first pixel.
            corners = _with_lines(grey, dictionary, number, each) + 0.5
            found[family, number] = corners * [width / size[0], height / size[1]]
    return found


def _markers(
    grey: UInt8[np.ndarray, "h w"], dictionary: cv2.aruco.Dictionary, refinement: int
) -> dict[int, Float[np.ndarray, "4 2"]]:
    """Return the markers of a family by number."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = refinement
    corners, numbers, _ = cv2.aruco.ArucoDetector(dictionary, parameters).detectMarkers(grey)
    known = [] if numbers is None else [int(number) for number in np.ravel(numbers)]
    return {number: each.reshape(4, 2) for number, each in zip(known, corners, strict=True)}


def _with_lines(
    grey: UInt8[np.ndarray, "h w"],
    dictionary: cv2.aruco.Dictionary,
    number: int,
    corners: Float[np.ndarray, "4 2"],
) -> Float[np.ndarray, "4 2"]:
    """Return the corners between lines along the edges of a marker.

    AprilTag's refinement fits them to the gradients. It is slow, so that only the surroundings of
    the marker are searched; the corners found by areas around them are 0.2 px too far inside.
    """
    low, high = corners.min(0), corners.max(0)
    margin = 0.3 * (high - low) + 4
    first = np.maximum(low - margin, 0).astype(int)
    last = (high + margin).astype(int) + 1
    crop = np.ascontiguousarray(grey[first[1] : last[1], first[0] : last[0]])
    found = _markers(crop, dictionary, cv2.aruco.CORNER_REFINE_APRILTAG)
    return np.asarray(found[number] + first if number in found else corners)


def _seen(index: int, camera: FrameCamera, corners_px: Float[np.ndarray, "4 2"]) -> _Sighting:
    directions = straight_rays(camera, corners_px) @ camera.viewmat[:3, :3].double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    center = camera_centers(camera.viewmat[None].double())[0].numpy()
    return _Sighting(
        index, center, directions, float(camera.K[0, 0]) / max(camera.width, camera.height)
    )


def _triangulated(seen: list[_Sighting]) -> Float[np.ndarray, "4 3"] | None:
    """Return the corners of a marker, nearest to the rays of the photos that agree, if two do."""
    while len(seen) >= 2:
        corners = np.stack([_nearest(seen, corner) for corner in range(4)])
        errors = [_error(each, corners) for each in seen]
        if max(errors) < MAX_ERROR:
            return corners
        seen = [each for each, error in zip(seen, errors, strict=True) if error < max(errors)]
    return None


def _nearest(seen: list[_Sighting], corner: int) -> Float[np.ndarray, "3"]:
    """Return the point nearest to the rays of one corner (least squares of the distances)."""
    normal, right = np.zeros((3, 3)), np.zeros(3)
    for each in seen:
        direction = each.directions[corner]
        across = np.eye(3) - np.outer(direction, direction)
        normal += across
        right += across @ each.center
    return np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0])


def _error(each: _Sighting, corners: Float[np.ndarray, "4 3"]) -> float:
    """Return the largest distance of the corners from their rays (long sides of the photo)."""
    away = corners - each.center
    distance = np.linalg.norm(away, axis=1)
    sine = np.linalg.norm(np.cross(away, each.directions), axis=1) / np.maximum(distance, 1e-30)
    behind = (away * each.directions).sum(1) <= 0
    return float(np.where(behind, np.inf, each.radian_px * sine).max())


def _side(corners: Float[np.ndarray, "4 3"]) -> float | None:
    """Return the mean length of the edges; None if it is no square."""
    edges = np.linalg.norm(np.roll(corners, -1, 0) - corners, axis=1)
    diagonals = np.linalg.norm(corners[[0, 1]] - corners[[2, 3]], axis=1)
    lengths = np.concatenate([edges, diagonals / np.sqrt(2)])
    if not lengths.max() <= (1 + MAX_EDGE_DIFFERENCE) * lengths.min():
        return None
    return float(edges.mean())


def _leveling(markers: list[Float[np.ndarray, "4 3"]]) -> Float[np.ndarray, "3 3"]:
    """Return the rotation by which +y becomes opposite to the mean normal of level markers."""
    normals = np.stack([np.cross(c[3] - c[0], c[1] - c[0]) for c in markers])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    level = normals[:, 1] < -np.cos(np.deg2rad(MAX_TILT_DEG))
    if not level.any():
        warn(
            f"{counted(len(markers), 'marker')} give the scale but not the gravity: none of them "
            "lies level on the ground"
        )
        return np.eye(3)
    down = -normals[level].mean(0)
    return rotation_between(down / np.linalg.norm(down), np.array([0.0, 1.0, 0.0]))


def rotation_between(
    source: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """Return the smallest rotation from one unit vector to another, which is not its opposite."""
    axis = np.cross(source, target)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + source @ target))
