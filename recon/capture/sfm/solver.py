"""Cameras of photos that come without any, by structure from motion (COLMAP)."""

import importlib.util
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from recon.capture.cache import cache_folder, content_key
from recon.capture.colmap import read_cameras
from recon.capture.exif import exif_down, exif_focals
from recon.capture.images import image_size
from recon.capture.names import portable
from recon.capture.photo_files import checked_photos
from recon.capture.sfm.duplicates import distinct_photos
from recon.capture.sfm.outcome import FILE_NAME as OUTCOME_FILE
from recon.capture.sfm.outcome import Outcome
from recon.capture.sfm.posed_capture import PosedCapture
from recon.capture.sfm.prepare import prepare_images
from recon.capture.sfm.stages import Matcher, available_matchers, run_sfm
from recon.capture.types import Capture, Frame, FrameCamera
from recon.errors import InputError, MissingDependency, counted, listed, warn
from recon.files import atomic_output, temporary_folder
from recon.types import StageProgress

# Larger captures are reduced to this many photos, evenly spaced.
MAX_SOLVED_PHOTOS = 500
# Part of the key of cached cameras; to be changed with what the solver makes of the same photos.
SOLVER_VERSION = 3
# Focal length over the long side of a photo without EXIF, as in COLMAP.
DEFAULT_FOCAL_RATIO = 1.2


@dataclass(frozen=True)
class SolveConfig:
    """How cameras are solved."""

    seed: int = 0
    """Seed of all random numbers."""
    use_cache: bool = True
    """Reuse cameras that were solved before for the same photos and settings."""
    matcher: Matcher | None = None
    """Use only this matcher. None tries SIFT first, then ALIKED with LightGlue if it is installed,
    if SIFT registers too few photos or points, and if there are not too many photos."""

    def matchers(self, photos: int) -> tuple[Matcher, ...]:
        """Return the matchers for a number of photos, in the order in which they are tried."""
        return available_matchers(photos) if self.matcher is None else (self.matcher,)


def solve_cameras(capture: Capture, config: SolveConfig, report: StageProgress) -> PosedCapture:
    """Solve the cameras of a capture's photos, ignoring any cameras and depths that it has.

    The scale of the world frame is arbitrary, and +y points down as far as the photos tell. A
    single photo gets an upright camera at the origin that looks along +z.

    Raises:
        MissingDependency: pycolmap is not installed.
        InputError: A stage failed or ran into its time limit, or fewer than two photos could be
            registered.
    """
    if capture.kind not in ("images", "video"):
        capture = checked_photos(capture, decode=True)
    if len(capture.frames) == 1:
        frame = _with_default_camera(capture.frames[0])
        return PosedCapture(replace(capture, frames=(frame,)), "none")
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingDependency(
            f"the photos in {capture.title} come without cameras, and solving them needs an extra "
            "package; pip install 'reconsplat[sfm]', or provide a COLMAP project or a "
            "transforms.json"
        )
    reduced = _reduced(_without_duplicates(capture))
    model = _model_folder(reduced, config)
    if not (config.use_cache and model.is_dir()):
        _solve_into(model, reduced, config, report)
    return _read_solution(capture, reduced, model)


def solved_before(capture: Capture, config: SolveConfig) -> PosedCapture | None:
    """Return the cameras that were solved before for these photos and settings, if any."""
    if len(capture.frames) == 1:
        return None
    reduced = _reduced(_without_duplicates(capture))
    model = _model_folder(reduced, config)
    return _read_solution(capture, reduced, model) if model.is_dir() else None


def _model_folder(reduced: Capture, config: SolveConfig) -> Path:
    files = [(frame.name, frame.image_path) for frame in reduced.frames]
    # Features on black are ignored.
    for frame in reduced.frames:
        if frame.mask_path is not None:
            files.append((f"mask {frame.mask_inverted} {frame.name}", frame.mask_path))
    settings = SOLVER_VERSION, config.seed, config.matchers(len(reduced.frames))
    return cache_folder() / "cameras" / content_key(files, *settings)


def _read_solution(capture: Capture, reduced: Capture, model: Path) -> PosedCapture:
    """Read solved cameras, and warn of what is wrong with them."""
    registered = read_cameras(model)
    frames = tuple(
        replace(frame, camera=camera, points=points, depth_bounds=None, oriented=False)
        for frame in reduced.frames
        for camera, points in [registered.get(portable(frame.name), (None, None))]
        if camera is not None
    )
    unregistered = tuple(f.name for f in capture.frames if portable(f.name) not in registered)
    left_out = [f.name for f in reduced.frames if portable(f.name) not in registered]
    for line in Outcome.read(model / OUTCOME_FILE, model).warnings(str(capture.title), left_out):
        warn(line)
    return PosedCapture(
        replace(capture, kind="solved", frames=frames), "solved", unregistered, model
    )


def _with_default_camera(frame: Frame) -> Frame:
    width, height = image_size(frame.image_path)
    focal = exif_focals([frame.image_path])[0].focal_px or DEFAULT_FOCAL_RATIO * max(width, height)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    x, y = exif_down(frame.image_path)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:2, :2] = torch.tensor([[y, x], [-x, y]])
    camera = FrameCamera(viewmat, K.double(), width, height)
    return replace(frame, camera=camera, points=None, depth_bounds=None, oriented=False)


def _without_duplicates(capture: Capture) -> Capture:
    """Keep one of photos that are copies of each other, and name the others."""
    distinct = distinct_photos([frame.image_path for frame in capture.frames])
    copies = [f.name for i, f in enumerate(capture.frames) if i not in set(distinct)]
    if len(distinct) == 1:
        raise InputError(
            f"cannot solve the cameras of the {len(capture.frames)} photos in {capture.title}: "
            f"there is no parallax, they are copies of one photo ({capture.frames[0].name}); "
            "expected photos taken from different positions; take more photos"
        )
    if copies:
        warn(
            f"left out {counted(len(copies), 'photo')} of {capture.title}, copies of others: "
            f"{listed(copies)}"
        )
    return replace(capture, frames=tuple(capture.frames[i] for i in distinct))


def _reduced(capture: Capture) -> Capture:
    """Keep at most MAX_SOLVED_PHOTOS photos, evenly spaced in the order of their names."""
    total = len(capture.frames)
    if total > MAX_SOLVED_PHOTOS:
        warn(f"used {MAX_SOLVED_PHOTOS} of the {total} photos of {capture.title}, evenly spaced")
    kept = np.linspace(0, total - 1, min(total, MAX_SOLVED_PHOTOS)).round().astype(int)
    return replace(capture, frames=tuple(capture.frames[i] for i in kept))


def _solve_into(model: Path, capture: Capture, config: SolveConfig, report: StageProgress) -> None:
    """Solve the cameras, and write the COLMAP model to a folder of the cache."""
    with temporary_folder() as work:
        (work / "images").mkdir()
        report("reading photos", 0.0)
        prepared = prepare_images(capture.frames, work / "images")
        matchers = config.matchers(len(capture.frames))
        outcome = run_sfm(prepared, work, config.seed, matchers, report)
        if outcome.num_registered < 2:
            count = len(capture.frames)
            raise InputError(
                f"cannot solve the cameras of the {count} photos in {capture.title}: "
                f"{outcome.failure(count)}; take more photos, or provide cameras (a COLMAP project "
                "or a transforms.json)"
            )
        model.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(model) as output:
            shutil.copytree(outcome.model, output)
            outcome.write(output / OUTCOME_FILE)
