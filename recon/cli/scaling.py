"""The factor that `recon convert` scales a scene by: a number, or a known distance in it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recon.cli.arguments import UsageError
from recon.cli.scene_capture import capture_of_scene
from recon.config import MAX_SCALE, MIN_SCALE
from recon.errors import InputError, shortened

if TYPE_CHECKING:
    from recon.capture import Capture, Frame
    from recon.formats import SceneSource
    from render import Gaussians

# Long side at which a photo's camera renders the depth of a pixel (px), and the number of pixels
# around it that count.
DEPTH_PX, RADIUS_PX = 1024, 1
FORM = "--scale-between: expected two points and the distance between them"
POINT_FORM = "expected a point as x,y,z or as a pixel of a photo, PHOTO:x,y (with --cameras)"


class PhotoPixel(NamedTuple):
    """A point of the scene, given by a pixel of a photo."""

    photo: str
    x: float
    y: float


Point = PhotoPixel | tuple[float, float, float]


def parse_distance(words: tuple[str, ...]) -> tuple[Point, Point, float]:
    """Read the values of --scale-between: two points, and their distance.

    Raises:
        UsageError: They are none.
    """
    if len(words) != 3:
        raise UsageError(f"{FORM}, found {len(words)} values")
    try:
        distance = float(words[2])
    except ValueError:
        raise UsageError(f"{FORM}, found the distance {shortened(words[2])}") from None
    check_factor("--scale-between", distance)
    return _parse_point(words[0]), _parse_point(words[1]), distance


def check_factor(flag: str, factor: float) -> None:
    """Raise UsageError unless a scale is in the range that recon computes with."""
    if not MIN_SCALE <= factor <= MAX_SCALE:
        raise UsageError(f"{flag} must be from {MIN_SCALE:g} to {MAX_SCALE:g}, found {factor:g}")


def _parse_point(text: str) -> Point:
    name, _, numbers = text.rpartition(":")
    try:
        values = [float(word) for word in numbers.split(",")]
    except ValueError:
        values = []
    if not np.isfinite(values).all() or len(values) != (2 if name else 3):
        raise UsageError(f"--scale-between: {POINT_FORM}, found {shortened(text)}")
    if name:
        return PhotoPixel(name, values[0], values[1])
    return values[0], values[1], values[2]


def factor_for(
    source: "SceneSource", points: tuple[Point, Point], distance: float, capture: Path | None
) -> float:
    """Return the factor by which two points of a scene get a distance.

    Args:
        source: The scene.
        points: The points, in the world frame or as pixels of photos.
        distance: Their distance to be.
        capture: The capture whose photos the pixels are of.

    Raises:
        UsageError: Pixels are given without a capture.
        InputError: The points are the same, or no surface is at a pixel.
    """
    scene = _Scene(source, capture)
    found = [scene.position(point) for point in points]
    length = float(np.linalg.norm(found[0] - found[1]))
    if length == 0:
        raise UsageError("--scale-between: both points are the same; expected two different ones")
    factor = distance / length
    check_factor("the factor of --scale-between", factor)
    return factor


@dataclass(frozen=True)
class _Scene:
    """A scene and the capture of --cameras, which are read when a pixel needs them, and once."""

    source: "SceneSource"
    path: Path | None

    @cached_property
    def gaussians(self) -> "Gaussians":
        """The Gaussians."""
        return self.source.load()

    @cached_property
    def capture(self) -> "Capture":
        """The capture, in the frame of the Gaussians."""
        from recon.capture.cameras import relative_to

        assert self.path is not None
        return relative_to(
            capture_of_scene(self.path, self.source.start, photos=False), self.source.origin
        )

    def position(self, point: Point) -> np.ndarray:
        """Return a point relative to the origin of the scene."""
        if not isinstance(point, PhotoPixel):
            return np.subtract(point, self.source.origin)
        if self.path is None:
            raise UsageError(
                f"--scale-between {point.photo}:... is a pixel of a photo; pass --cameras"
            )
        frame = _frame(self.capture, point.photo)
        return _surface_at(self.gaussians, self.source.antialiased, frame, point)


def _frame(capture: "Capture", name: str) -> "Frame":
    """Return the photo of a name, which may be that of its file alone."""
    frames = [f for f in capture.frames if f.camera is not None]
    for found in (
        [frame for frame in frames if frame.name == name],
        [frame for frame in frames if Path(frame.name).name == name],
    ):
        if len(found) == 1:
            return found[0]
    raise InputError(
        f"--scale-between: {capture.title} has no photo {name!r} with a camera; expected one like "
        f"{frames[0].name!r}"
        if frames
        else f"--scale-between: {capture.title} has no cameras; expected a capture with cameras"
    )


def _surface_at(
    gaussians: "Gaussians", antialiased: bool, frame: "Frame", point: PhotoPixel
) -> np.ndarray:
    """Return where the ray of a pixel meets the surface of the scene."""
    from recon.capture.undistort import straight_rays
    from recon.meshing.depth_maps import render_depth_maps
    from render import Cameras

    known = frame.camera
    assert known is not None
    if not (0 <= point.x <= known.width and 0 <= point.y <= known.height):
        raise InputError(
            f"--scale-between: {point.x:g},{point.y:g} is outside of {frame.name}, which has "
            f"{known.width}x{known.height} px"
        )
    ray = straight_rays(known, np.array([[point.x, point.y]]))[0]
    size = DEPTH_PX / max(known.width, known.height)
    camera = Cameras(known.viewmat[None].float(), known.K[None].float(), known.width, known.height)
    camera = camera.resized(*(max(1, round(size * s)) for s in (known.width, known.height)))
    (seen,) = render_depth_maps(gaussians, [camera], antialiased, lambda done: None)
    column, row = (camera.Ks[0].double().numpy() @ ray)[:2]
    rows, columns = (
        slice(max(0, int(v) - RADIUS_PX), int(v) + RADIUS_PX + 1) for v in (row, column)
    )
    depth = seen.depth[rows, columns][seen.confidence[rows, columns] > 0]
    if row < 0 or column < 0 or len(depth) == 0:
        raise InputError(
            f"--scale-between: the scene has no surface at {point.x:g},{point.y:g} of {frame.name}"
        )
    c2w = known.viewmat.double().inverse().numpy()
    return np.asarray(c2w[:3, 3] + float(depth.median()) * c2w[:3, :3] @ ray)
