"""Cameras of photos that come without any, by structure from motion (COLMAP)."""

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from recon.capture.cache import cache_folder, content_key
from recon.capture.colmap import read_colmap
from recon.capture.exif import exif_down, exif_focal
from recon.capture.images import image_size
from recon.capture.sfm.prepare import prepare
from recon.capture.sfm.stages import Matcher, available_matchers, solve
from recon.capture.types import Capture, Frame, FrameCamera
from recon.capture.world import chosen_world, moved
from recon.errors import InputError, MissingDependency
from recon.files import atomic_output
from recon.types import StageProgress
from render import Sim3

CameraSource = Literal["given", "solved", "none"]
# All pairs of photos are matched: of more photos than this, only as many, evenly spaced, are used.
MAX_PHOTOS = 60
# Focal length of a photo that does not tell, in long sides (as in COLMAP).
GUESSED_FOCAL = 1.2


@dataclass(frozen=True)
class SolveConfig:
    """How cameras are found."""

    seed: int = 0
    """Of all random numbers."""
    use_cache: bool = True
    """Take the cameras that were found for the same photos before."""
    matcher: Matcher | None = None
    """Only this one; None: SIFT, and ALIKED with LightGlue (where it is installed) if that places
    too few photos or finds too few points, and there are not too many photos."""

    def matchers(self, photos: int) -> tuple[Matcher, ...]:
        """In the order they are tried."""
        return available_matchers(photos) if self.matcher is None else (self.matcher,)


@dataclass(frozen=True)
class PosedCapture:
    """A capture in which every photo has a camera, and where these cameras come from."""

    capture: Capture
    """The photos whose camera is known."""
    camera_source: CameraSource
    """`given` by the capture, `solved` by structure from motion, or `none`: a single photo, whose
    camera is placed at the origin."""
    unregistered: tuple[str, ...] = ()
    """Names of the photos whose cameras could not be solved."""
    colmap_model: Path | None = None
    """Folder of the COLMAP model of the original photos; None unless the cameras were solved."""
    capture_from_model: Sim3 | None = None
    """From the world frame of the COLMAP model to that of the capture; None for the identity."""

    def transformed(self, scale: float, center: bool) -> "PosedCapture":
        """Scale the world frame, and move its origin to the mean camera centre if `center`."""
        transform = chosen_world(self.capture.frames, scale, center)
        if transform is None:
            return self
        frames = tuple(moved(frame, transform) for frame in self.capture.frames)
        return replace(
            self, capture=replace(self.capture, frames=frames), capture_from_model=transform
        )


def solve_cameras(capture: Capture, config: SolveConfig, report: StageProgress) -> PosedCapture:
    """Find the cameras of a capture's photos, in a scale of the solver's choice, +y down as far as
    the photos tell; whatever the capture says of cameras and depths is not looked at.

    A single photo gets one that looks ahead. InputError when pycolmap is missing, when a stage
    runs into its limit of time, or when fewer than two photos can be placed.
    """
    if len(capture.frames) == 1:
        return PosedCapture(replace(capture, frames=(_looking_ahead(capture.frames[0]),)), "none")
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingDependency(
            f"the photos in {capture.title} come without cameras, and finding them needs an extra "
            "package; pip install 'reconsplat[sfm]', or give a COLMAP project or transforms.json"
        )
    tried = _thinned(capture)
    files = [(frame.name, frame.image_path) for frame in tried.frames]
    settings = config.seed, config.matchers(len(files))
    kept = cache_folder() / "cameras" / content_key(files, *settings)
    if not (config.use_cache and kept.is_dir()):
        _solve_into(kept, tried, config, report)
    found = read_colmap(tried.root, kept)
    placed = {frame.image_path: frame for frame in found.frames}
    frames = tuple(
        replace(frame, camera=twin.camera, points=twin.points, depth_bounds=None)
        for frame in tried.frames
        if (twin := placed.get(frame.image_path)) is not None
    )
    unregistered = tuple(frame.name for frame in tried.frames if frame.image_path not in placed)
    return PosedCapture(
        replace(capture, kind="solved", frames=frames), "solved", unregistered, kept
    )


def _looking_ahead(frame: Frame) -> Frame:
    width, height = image_size(frame.image_path)
    focal = exif_focal(frame.image_path)[0] or GUESSED_FOCAL * max(width, height)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    x, y = exif_down(frame.image_path)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:2, :2] = torch.tensor([[y, x], [-x, y]])
    camera = FrameCamera(viewmat, K.double(), width, height)
    return replace(frame, camera=camera, points=None, depth_bounds=None)


def _thinned(capture: Capture) -> Capture:
    """At most MAX_PHOTOS, evenly spaced in the order of their names."""
    total = len(capture.frames)
    chosen = np.linspace(0, total - 1, min(total, MAX_PHOTOS)).round().astype(int)
    return replace(capture, frames=tuple(capture.frames[i] for i in chosen))


def _solve_into(kept: Path, capture: Capture, config: SolveConfig, report: StageProgress) -> None:
    """Write the COLMAP model into the folder `kept`."""
    with tempfile.TemporaryDirectory(prefix="recon-solve-") as scratch:
        work = Path(scratch)
        (work / "images").mkdir()
        report("reading photos", 0.0)
        prepared = prepare(capture.frames, work / "images")
        matchers = config.matchers(len(capture.frames))
        outcome = solve(prepared, work, config.seed, matchers, report)
        if outcome.placed < 2:
            raise InputError(_complaint(capture, outcome.matched_pairs))
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(kept) as temporary:
            shutil.copytree(outcome.model, temporary)


def _complaint(capture: Capture, matched_pairs: int) -> str:
    count = len(capture.frames)
    if 2 * matched_pairs >= count:
        found = "they show the same, but nothing moved against the rest between them"
        expected = "from different places (not turned on the spot, not copies of one photo)"
    else:
        found = "too few points match between them"
        expected = (
            "of one scene that stands still, a step or two apart and showing much of the same"
        )
    return (
        f"the cameras of the {count} photos in {capture.title} could not be found: {found}; "
        f"expected photos taken {expected}; take more of them, or give their cameras"
    )
