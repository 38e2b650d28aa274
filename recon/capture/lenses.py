"""Photos of lenses that neither OpenCV's model nor its fisheye describes, as pinhole photos.

COLMAP itself (pycolmap, in a separate process) tells where rays meet such a photo. The photo is
resampled for a pinhole camera, a panorama for the six of a cube, and written to the cache.
"""

import importlib.util
import json
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from recon.capture.cache import cache_folder, content_key
from recon.capture.images import read_mask, read_pixels, write_pixels
from recon.capture.isolated import run_script
from recon.capture.orientation import mask_as_stored, photo_size
from recon.capture.types import Capture, Frame, FrameCamera
from recon.errors import InputError, MissingDependency, warn
from recon.files import atomic_output, temporary_folder
from render.panorama import FACES

PANORAMA = "EQUIRECTANGULAR"
# Distortion is smooth and interpolated between every STEP-th pixel; a panorama has poles.
STEP = 4
LIMIT_S = 300.0
JPEG_QUALITY = (
    *(cv2.IMWRITE_JPEG_QUALITY, 97),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)

Size = tuple[int, int]


@dataclass(frozen=True)
class _Lens:
    """Where the rays of pinhole cameras meet a photo."""

    K: Float[np.ndarray, "3 3"]
    size: Size
    """(width, height) of the pinhole photos."""
    pixels: Float[np.ndarray, "f r c 2"]
    """Pixel of every STEP-th pixel of each face."""


def lens_camera(
    model: str, parameters: tuple[float, ...], viewmat: Float[Tensor, "4 4"], size: Size, where: str
) -> FrameCamera:
    """Return a camera whose photo `pinhole_photos` must convert.

    Args:
        model: COLMAP's name of the camera model.
        parameters: Its parameters.
        viewmat: Camera from world.
        size: (width, height) in pixels.
        where: Origin of the camera, for messages.

    Raises:
        InputError: The parameters are not finite or the size is not positive.
    """
    if not (np.isfinite(parameters).all() and min(size) > 0):
        raise InputError(f"{where}: expected finite parameters and a size, found {parameters}")
    return FrameCamera(viewmat, torch.eye(3, dtype=torch.float64), *size, "lens", parameters, model)


def pinhole_photos(capture: Capture, photos: bool = True) -> Capture:
    """Replace photos of other lenses by pinhole photos in the cache, and warn of it.

    Args:
        capture: The capture.
        photos: Whether to convert photos; otherwise their cameras only.

    Raises:
        MissingDependency: pycolmap is not installed.
        InputError: A camera or a photo cannot be used.
    """
    models = Counter(f.camera.lens for f in capture.frames if f.camera and f.camera.lens)
    if not models:
        return capture
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingDependency(
            f"{capture.title} has cameras of the model {next(iter(models))}, which need an extra "
            "package; pip install 'reconsplat[sfm]'"
        )
    counts = ", ".join(f"{count} of {model}" for model, count in models.items())
    cube = "; each panorama becomes the six photos of a cube" if PANORAMA in models else ""
    warn(f"{capture.title}: photos are resampled to those of pinhole cameras: {counts}{cube}")
    frames: list[Frame] = []
    lenses: dict[tuple[object, ...], _Lens] = {}
    for frame in capture.frames:
        if frame.camera is None or not frame.camera.lens:
            frames.append(frame)
            continue
        camera = frame.camera
        size = photo_size(frame) if photos else (camera.width, camera.height)
        key = camera.lens, camera.coefficients, camera.width, camera.height, size
        if key not in lenses:
            lenses[key] = _sample_lens(camera, size, frame.name)
        frames += _converted(frame, camera, lenses[key], photos)
    return replace(capture, frames=tuple(frames))


def _sample_lens(camera: FrameCamera, size: Size, name: str) -> _Lens:
    panorama = camera.lens == PANORAMA
    job = {
        "model": camera.lens,
        "width": camera.width,
        "height": camera.height,
        "parameters": list(camera.coefficients),
        "size": size,
        "step": _step(camera),
        "faces": list(FACES.values()) if panorama else [],
    }
    with temporary_folder() as folder:
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        arguments = [str(folder / "job.json"), str(folder / "lens.npz")]
        try:
            reason = run_script("colmap_lens.py", arguments, LIMIT_S)
        except subprocess.TimeoutExpired:
            reason = f"it took over {LIMIT_S:.0f} s"
        if reason is not None:
            raise InputError(
                f"cannot undistort {name} of a {camera.lens} camera: {reason}; run `colmap "
                "image_undistorter` and use its output"
            )
        with np.load(folder / "lens.npz", allow_pickle=False) as found:
            width, height = found["size"].tolist()
            return _Lens(found["K"], (width, height), found["pixels"])


def _step(camera: FrameCamera) -> int:
    return 1 if camera.lens == PANORAMA else STEP


def _converted(frame: Frame, camera: FrameCamera, lens: _Lens, photos: bool) -> list[Frame]:
    """Return the frames of the pinhole photos that replace a photo."""
    faces = FACES if camera.lens == PANORAMA else {"": FACES["front"]}
    files = [("photo", frame.image_path)] + [("mask", p) for p in [frame.mask_path] if p]
    folder = frame.image_path.parent
    if photos:
        size = camera.width, camera.height
        settings = camera.lens, camera.coefficients, size, frame.oriented, frame.mask_inverted
        folder = cache_folder() / "pinhole" / content_key(files, *settings)
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with atomic_output(folder) as temporary:
                temporary.mkdir()
                _write_photos(temporary, frame, lens, _step(camera), list(faces))
    made = []
    for face, rotation in faces.items():
        viewmat = camera.viewmat.clone()
        viewmat[:3] = torch.tensor(rotation, dtype=torch.float64).T @ viewmat[:3]
        straight = FrameCamera(viewmat, torch.from_numpy(lens.K), *lens.size)
        suffix = f"_{face}" if face else ""
        path = Path(frame.name)
        # Panoramas are the only ones with photos that see other parts of the points.
        made.append(
            Frame(
                path.with_name(f"{path.stem}{suffix}{path.suffix}").as_posix(),
                folder / f"photo{suffix}.jpg",
                straight,
                folder / f"mask{suffix}.png" if (folder / f"mask{suffix}.png").is_file() else None,
                points=None if face else frame.points,
                depth_bounds=None if face else frame.depth_bounds,
            )
        )
    return made


def _write_photos(folder: Path, frame: Frame, lens: _Lens, step: int, faces: list[str]) -> None:
    """Write the pinhole photos, and masks if the photo has one or they reach beyond it."""
    colors, mask = read_pixels(frame.image_path, apply_orientation=frame.oriented)
    size = colors.shape[1], colors.shape[0]
    if frame.mask_path is not None:
        stored = read_mask(frame.mask_path, frame.mask_inverted)
        kept = cv2.resize(mask_as_stored(stored, frame, size), size)
        mask = kept if mask is None else np.minimum(mask, kept)
    whole = np.full(size[::-1], 255, np.uint8) if mask is None else mask
    for face, samples in zip(faces, lens.pixels, strict=True):
        suffix = f"_{face}" if face else ""
        x, y = (_interpolated(samples[..., axis], lens.size, step) for axis in (0, 1))
        border = cv2.BORDER_WRAP if face else cv2.BORDER_REPLICATE
        photo = cv2.remap(colors, x - 0.5, y - 0.5, cv2.INTER_CUBIC, borderMode=border)
        covered = cv2.remap(whole, x - 0.5, y - 0.5, cv2.INTER_LINEAR, borderMode=border)
        inside = (x >= 0) & (x <= size[0]) & (y >= 0) & (y <= size[1])
        covered = np.where(inside, covered, 0).astype(np.uint8)
        write_pixels(folder / f"photo{suffix}.jpg", _bgr(photo), JPEG_QUALITY)
        if covered.min() < 255:
            write_pixels(folder / f"mask{suffix}.png", covered)


def _bgr(colors: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.ascontiguousarray(colors[..., ::-1])


def _interpolated(
    samples: Float[np.ndarray, "r c"], size: Size, step: int
) -> Float[np.ndarray, "h w"]:
    """Interpolate linearly what is known at every `step`-th pixel."""
    width, height = size
    known = np.where(np.isfinite(samples), samples, -1e6)
    return _along_rows(_along_rows(known, height, step).T, width, step).T.astype(np.float32)


def _along_rows(
    samples: Float[np.ndarray, "r c"], count: int, step: int
) -> Float[np.ndarray, "h c"]:
    row, rest = np.divmod(np.arange(count), step)
    weight = (rest / step)[:, None]
    after = samples[np.minimum(row + 1, len(samples) - 1)]
    return np.asarray(samples[row] * (1 - weight) + after * weight)
