"""Captures of every kind: folders of photos, videos, and the file formats of other tools."""

from collections.abc import Sequence
from pathlib import Path

from recon.capture.colmap import find_colmap, read_colmap
from recon.capture.folder import read_files, read_folder
from recon.capture.llff import read_llff
from recon.capture.transforms import read_transforms
from recon.capture.types import Capture
from recon.capture.video import is_video, read_video
from recon.errors import InputError

# The second is the training split of a NeRF synthetic scene; the other splits are for testing.
TRANSFORMS_NAMES = ("transforms.json", "transforms_train.json")


def load_capture(
    source: Capture | str | Path | Sequence[str | Path],
    frames: int | None = None,
    photos: bool = True,
) -> Capture:
    """Read the photos of a capture, and their cameras if there are any, without decoding images.

    A folder is read as nerfstudio (transforms.json), COLMAP (a model in it, in `sparse`, `sparse/0`
    or `colmap/sparse/0`), LLFF (poses_bounds.npy) or plain photos, whichever fits first.

    Args:
        source: A folder, a video, a transforms.json, a poses_bounds.npy, or a list of image files.
            A capture is returned as it is.
        frames: Number of frames to take from a video, which are written to the cache; None takes
            more the more the camera moves.
        photos: Whether photos and masks of a transforms.json must exist. Without them it must give
            the sizes of the photos.

    Raises:
        InputError: There is no capture at the path, or it is invalid.
    """
    if isinstance(source, Capture):
        return source
    if not isinstance(source, (str, Path)):
        return read_files([Path(file) for file in source])
    path = Path(source)
    if path.is_file():
        if path.suffix == ".json":
            return read_transforms(path, photos)
        if path.suffix == ".npy":
            return read_llff(path)
        if is_video(path):
            return read_video(path, frames)
        raise InputError(
            f"{path} is a file; expected a folder of images, a video, a transforms.json, "
            "a COLMAP project or poses_bounds.npy; pass the folder of the photos"
        )
    if not path.is_dir():
        raise InputError(
            f"input not found: {path}; expected a folder of images or a transforms.json; "
            "check the path"
        )
    for name in TRANSFORMS_NAMES:
        if (path / name).is_file():
            return read_transforms(path / name, photos)
    model = find_colmap(path)
    if model is not None:
        return read_colmap(path, model)
    if (path / "poses_bounds.npy").is_file():
        return read_llff(path / "poses_bounds.npy")
    return read_folder(path)
