"""Captures of every kind: folders of photos, videos, and the file formats of other tools."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from recon.capture.archive import is_archive, told_as_archive, unpacked
from recon.capture.camera_lists import camera_files
from recon.capture.colmap import find_colmap, read_colmap
from recon.capture.colmap_files import model_files
from recon.capture.images import list_images
from recon.capture.inputs import is_pattern, read_photos, read_several
from recon.capture.lenses import pinhole_photos
from recon.capture.llff import read_llff
from recon.capture.masks import with_masks
from recon.capture.names import FOLDERS, SMALLER_COPIES
from recon.capture.orientation import warn_of_orientation
from recon.capture.other_tools import find_other_cameras, first_readable
from recon.capture.photo_files import checked_photos, photos_without_camera
from recon.capture.transforms import read_transforms
from recon.capture.types import Capture
from recon.capture.valid_frames import TooFewCameras
from recon.capture.video import read_video
from recon.errors import InputError, MissingDependency, ReconWarning, listed, shortened, warn
from recon.formats import is_scene, open_scene
from recon.formats.sog_archive import is_sog_meta
from recon.photo_extensions import is_image, is_video
from recon.scene_extensions import SCENE_EXTENSIONS_TEXT

# The second is the training split of a NeRF synthetic scene; the other splits are for testing.
TRANSFORMS_NAMES = ("transforms.json", "transforms_train.json")
MODELS_BESIDE = ("sparse/0", "sparse", "colmap/sparse/0")
LLFF_NAME = "poses_bounds.npy"
NO_CAPTURE = (
    "is a scene already, and no photos; recon view, render, convert, compress and info take it"
)


def load_capture(
    source: Capture | str | Path | Sequence[str | Path],
    frames: int | None = None,
    photos: bool = True,
    invert_masks: bool = False,
) -> Capture:
    """Read the photos of a capture, and their cameras if there are any.

    A folder is read as nerfstudio (transforms.json), COLMAP (the largest model in it, in `sparse`,
    `sparse/0`, `colmap/sparse/0`, `dense/0/sparse`, ...), LLFF (poses_bounds.npy), cameras of
    another tool (see `find_other_cameras`) or plain photos, whichever fits first. Warnings name the
    cameras that are not used, photos that are missing or cannot be read, and masks.

    Args:
        source: A folder, a zip archive of one, a video, a transforms.json, a poses_bounds.npy, a
            file of another tool's cameras, an image file or a pattern of several (`photos/*.jpg`),
            or a list of image files, folders and archives of them. A capture is returned as it is.
        frames: Number of frames to take from a video, which are written to the cache; None takes
            more the more the camera moves.
        photos: Whether photos and masks of a transforms.json must exist. Without them it must give
            the sizes of the photos.
        invert_masks: Whether masks keep black and not white.

    Raises:
        InputError: There is no capture at the path, or it is invalid.
    """
    if isinstance(source, Capture):
        return source
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        capture = read_several([_path(file) for file in source], frames)
    else:
        try:
            capture = _read_path(_path(source), frames, photos)
        except TooFewCameras as error:
            raise InputError(
                f"{error}; correct the others, or pass the folder of the photos without this file "
                "to estimate the cameras"
            ) from error
    if photos and capture.has_cameras:
        capture = photos_without_camera(capture)
    if photos and capture.kind != "video":
        capture = checked_photos(capture, decode=capture.kind == "images")
        capture = with_masks(capture, invert_masks)
        warn_of_orientation(capture)
        if len(capture.frames) == 1 and capture.left_out:
            warn(f"only one photo of {capture.title} is used, so that its depth is a guess")
    return pinhole_photos(capture, photos)


def _path(source: Any) -> Path:
    """Return a path that a program gave; InputError if it is none."""
    if not isinstance(source, (str, os.PathLike)) or not str(source).strip():
        raise InputError(
            "expected the path of photos, a video or a capture, or a list of paths, found "
            f"{shortened(source)}; pass '.' for the current folder"
        )
    return Path(source)


def _read_path(path: Path, frames: int | None, photos: bool) -> Capture:
    if path.is_file():
        return _read_file(path, frames, photos)
    if path.is_dir():
        return _read_folder(path, frames, photos)
    if is_pattern(path):
        return read_several([path], frames)
    raise InputError(
        f"input not found: {path}; expected photos, a video, a .zip or a transforms.json; check "
        "the path"
    )


def _read_file(path: Path, frames: int | None, photos: bool) -> Capture:
    suffix = path.suffix.lower()
    if is_scene(path):
        raise _no_photos(path)
    if (read := dict(find_other_cameras(path.parent, photos)).get(path.name)) is not None:
        return read()
    if suffix == ".json":
        return read_transforms(path, photos)
    if suffix == ".npy":
        return read_llff(path, photos)
    if is_video(path):
        return read_video(path, frames)
    if is_image(path):
        return read_several([path], frames)
    if is_archive(path):
        folder, left_out = unpacked(path)
        with told_as_archive(folder, path):
            capture = _read_folder(folder, frames, photos)
        return replace(capture, origin=path, left_out=(*left_out, *capture.left_out))
    kind = f"{suffix} files" if suffix else "files without an extension"
    raise InputError(
        f"cannot read {path}: recon does not read {kind}; expected a folder or .zip of photos, a "
        f"video (.mp4, .mov, ...), a transforms.json, {LLFF_NAME} or, to view and convert, a scene "
        f"({SCENE_EXTENSIONS_TEXT}); pass the folder of the photos, or convert the file to one "
        "of these"
    )


def _no_photos(path: Path) -> InputError:
    """Return the error for a scene file, or for a mesh or a point cloud in such a format."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReconWarning)
            open_scene(path)
    except MissingDependency:
        # It cannot be told what is in it.
        pass
    except InputError as error:
        return InputError(f"{error}; to reconstruct, pass the folder of the photos")
    return InputError(f"{path} {NO_CAPTURE}")


def _read_folder(folder: Path, frames: int | None, photos: bool) -> Capture:
    """Read the likeliest of the cameras in a folder, and name the others."""
    kinds: list[tuple[str, Callable[[], Capture]]] = []
    if is_sog_meta(folder / "meta.json"):
        raise InputError(f"{folder} {NO_CAPTURE}")
    names = {path.name.lower(): path for path in sorted(folder.iterdir())}
    for name in TRANSFORMS_NAMES:
        if (file := names.get(name)) and file.is_file():
            kinds.append((file.name, partial(read_transforms, file, photos)))
    if model := find_colmap(folder):
        text = f"the COLMAP model in {model.relative_to(folder).as_posix()}"
        kinds.append((text, partial(read_colmap, folder, model, photos)))
    if (table := names.get(LLFF_NAME)) and table.is_file():
        kinds.append((table.name, partial(read_llff, table, photos)))
    lists = camera_files(folder, [name for name, _ in kinds])
    others = find_other_cameras(folder, photos)
    others[:0] = [(path.name, partial(read_transforms, path, photos)) for path in lists]
    if not kinds:
        return first_readable(folder, others) or _read_without_cameras(folder, frames, photos)
    kinds += others
    rest = [text for text, _ in kinds[1:]]
    if rest:
        warn(f"{folder} has several sets of cameras; {kinds[0][0]} is used, and not {listed(rest)}")
    return kinds[0][1]()


def _read_without_cameras(folder: Path, frames: int | None, photos: bool) -> Capture:
    """Read a folder without cameras of its own; a subfolder or the folder above may have some."""
    names = (*TRANSFORMS_NAMES, LLFF_NAME)
    children = sorted(child for child in folder.iterdir() if child.is_dir())
    below = [child / name for child in children for name in names if (child / name).is_file()]
    below += [path for child in children for path in camera_files(child, names)]
    if len({path.parent for path in below}) == 1 and not list_images(folder):
        warn(f"{folder} has no cameras itself; those of {below[0].relative_to(folder)} are used")
        if below[0].suffix.lower() == ".json":
            return read_transforms(below[0], photos, folder)
        return _read_file(below[0], frames, photos)
    above = folder.absolute().parent
    unread = [str(path) for path in below]
    if folder.name.lower() in FOLDERS or SMALLER_COPIES.fullmatch(folder.name):
        unread += [str(above / name) for name in names if (above / name).is_file()]
        unread += [str(above / name) for name in MODELS_BESIDE if model_files(above / name)]
        unread += [str(above / name) for name, _ in find_other_cameras(above)]
        unread += [str(path) for path in camera_files(above, names)]
    if unread:
        warn(
            f"the cameras of {folder} are estimated from the photos, and not read from "
            f"{listed(unread)}; pass the folder of one of these to use its cameras"
        )
    return read_photos(folder, frames)
